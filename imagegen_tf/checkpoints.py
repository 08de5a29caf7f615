"""Files that a training can be resumed from: whole or not there, never half-written."""

import json

import numpy as np

from imagegen_tf import runtime


def save(path, arrays, notes):
    """Write arrays and notes into one file.

    Args:
        path: ends in .npz.
        arrays: dict of name to array.
        notes: what JSON can hold.
    Raises:
        OSError: as in runtime.atomic_write.
    """
    notes = notes | {"arrays": sorted(arrays)}
    with runtime.atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, notes=np.array(json.dumps(notes)), **arrays)


def load(path):
    """Read what `save` wrote.

    Args:
        path: of the file.
    Returns:
        (arrays, notes), or None if there is no such file.
    Raises:
        ValueError: the file is damaged; the zip format's checksums tell. PermissionError.
    """
    try:
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        notes = json.loads(str(arrays.pop("notes")))
        if notes.pop("arrays") != sorted(arrays):
            raise ValueError("arrays are missing")
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds for a damaged file
        raise ValueError(f"{path} is damaged ({error}) and is not used") from error
    return arrays, notes
