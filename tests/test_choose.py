"""hardware: the choice of strategy and precision for every machine.

The expected choices are the rules of the design, "Devices and precision", written out by hand.
"""

import json
import subprocess

import pytest

from imagegen_tf import runtime

TWO_WORKERS = json.dumps(
    {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
)


CPU = {"gpus": (), "cpu_flags": ("avx2",)}
AMX = {"gpus": (), "cpu_flags": ("avx2", "amx_bf16")}
# machine, strategy, number of replicas, precision
MACHINES = {
    "a laptop": (CPU, "default", 1, "float32"),
    "a processor of which nothing is known": ({}, "default", 1, "float32"),
    "a server's processor": (AMX, "default", 1, "mixed_bfloat16"),
    "two logical CPU devices": (CPU | {"cpu_replicas": 2}, "MirroredStrategy", 2, "float32"),
    "two with amx": (AMX | {"cpu_replicas": 2}, "MirroredStrategy", 2, "mixed_bfloat16"),
    "one P100": ({"gpus": [(6, 0)]}, "default", 1, "float32"),
    "one V100": ({"gpus": [(7, 0)]}, "default", 1, "mixed_float16"),
    "one T4": ({"gpus": [(7, 5)]}, "default", 1, "mixed_float16"),
    "one A100": ({"gpus": [(8, 0)]}, "default", 1, "mixed_bfloat16"),
    "one RTX 3060": ({"gpus": [(8, 6)]}, "default", 1, "mixed_bfloat16"),
    "one GPU beyond 9": ({"gpus": [(10, 0)]}, "default", 1, "mixed_bfloat16"),
    "eight H200": ({"gpus": [(9, 0)] * 8}, "MirroredStrategy", 8, "mixed_bfloat16"),
    "the weaker of two": ({"gpus": [(8, 6), (7, 5)]}, "MirroredStrategy", 2, "mixed_float16"),
    "a GPU's precision beside amx": (AMX | {"gpus": [(6, 1)]}, "default", 1, "float32"),
    "logical CPUs before one GPU": (
        CPU | {"gpus": [(8, 0)], "cpu_replicas": 2},
        "MirroredStrategy",
        2,
        "float32",
    ),
    "several GPUs before logical CPUs": (
        CPU | {"gpus": [(8, 0)] * 2, "cpu_replicas": 4},
        "MirroredStrategy",
        2,
        "mixed_bfloat16",
    ),
    "two machines": (
        CPU | {"tf_config": TWO_WORKERS},
        "MultiWorkerMirroredStrategy",
        None,
        "float32",
    ),
    "two machines with a V100 each": (
        AMX | {"tf_config": TWO_WORKERS, "gpus": [(7, 0)]},
        "MultiWorkerMirroredStrategy",
        None,
        "mixed_float16",
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_choice_for(name):
    machine, strategy, num_replicas, policy = MACHINES[name]
    choice = runtime.choose(**machine)
    assert (choice.strategy, choice.num_replicas, choice.policy) == (strategy, num_replicas, policy)
    for reason in (choice.strategy_reason, choice.policy_reason):
        assert reason and "\n" not in reason


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("machine", [CPU, AMX, {"gpus": [(7, 0)]}])
def test_precision_that_is_asked_for_is_taken(precision, machine):
    choice = runtime.choose(precision, **machine)
    assert (choice.policy, choice.policy_reason) == (precision, "asked for")


@pytest.mark.parametrize(
    ("cluster", "strategy"),
    [
        ({}, "default"),
        ({"worker": ["a:1"]}, "default"),
        ({"chief": ["a:1"]}, "default"),
        ({"chief": ["a:1"], "worker": ["b:1"]}, "MultiWorkerMirroredStrategy"),
    ],
)
def test_workers_are_counted_with_the_chief(cluster, strategy):
    assert runtime.choose(tf_config=json.dumps({"cluster": cluster})).strategy == strategy


def test_reasons_name_what_decided():
    assert "TF_CONFIG names 2 workers" in runtime.choose(tf_config=TWO_WORKERS).strategy_reason
    assert "IMAGEGEN_CPU_REPLICAS" in runtime.choose(cpu_replicas=2).strategy_reason
    assert "7.5" in runtime.choose(gpus=[(7, 5)]).policy_reason
    assert "amx_bf16" in runtime.choose(cpu_flags=["amx_bf16"]).policy_reason


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "", None])
def test_other_precisions_are_refused(precision):
    with pytest.raises(ValueError, match="expected one of 'auto', 'float32', 'mixed_bfloat16'"):
        runtime.choose(precision)


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": []}', '{"cluster": {"worker": 3}}'])
def test_broken_tf_config_is_refused(text):
    with pytest.raises(ValueError, match="TF_CONFIG is .* expected JSON"):
        runtime.choose(tf_config=text)


def test_fewer_than_one_replica_is_refused():
    with pytest.raises(ValueError, match="IMAGEGEN_CPU_REPLICAS is 0, expected 1 or more"):
        runtime.choose(cpu_replicas=0)


@pytest.mark.parametrize(
    ("system", "text", "expected"),
    [
        ("Linux", "model name\t: X\nflags\t\t: fpu avx2 amx_bf16\n", {"fpu", "avx2", "amx_bf16"}),
        ("Linux", "Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("Linux", "nothing\n", set()),
        ("Darwin", "hw.optional.arm.FEAT_BF16: 1\nhw.optional.avx2_0: 0\n", {"bf16"}),
        ("Windows", "", set()),
    ],
)
def test_cpu_flags(monkeypatch, system, text, expected):
    # The texts have the layout of /proc/cpuinfo and of `sysctl hw.optional`.
    monkeypatch.setattr(runtime.platform, "system", lambda: system)
    monkeypatch.setattr(runtime.Path, "read_text", lambda *_, **__: text)
    done = subprocess.CompletedProcess((), 0, stdout=text)
    monkeypatch.setattr(runtime.subprocess, "run", lambda *_, **__: done)
    assert runtime.cpu_flags() == expected
