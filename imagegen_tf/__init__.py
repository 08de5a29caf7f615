"""Helper module of the image generation course: what two chapters share, or what is easy to get
wrong.

Importing it does nothing but make the submodules reachable: each is loaded when it is first used,
so chapters 00 to 03 never wait for TensorFlow.
"""

try:
    import lazy_loader
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "this Python does not have the course's packages; where `make install` has put them, "
        "`source .venv/bin/activate` makes it the one that has"
    ) from None

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    # What works without TensorFlow comes first.
    submodules="images noise editing compositing plots widgets datasets metrics classifiers "
    "runtime layers text weights training".split(),
    submod_attrs={"datasets": ["glyphs", "scene_captions", "scenes"]},
)
