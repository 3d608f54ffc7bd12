"""How many folds run side by side, and whether an accelerator holds their features."""

from __future__ import annotations

import inspect
import os
import resource
from pathlib import Path

import pytest
import torch

from mfhca_cache.common import hardware
from mfhca_cache.common.hardware import VARIABLES
from mfhca_cache.store.conditions import code_digest
from mfhca_train.data.folds import make_folds
from mfhca_train.model.network import MFHCA
from mfhca_train.results.metrics import mean_over_segments, scores
from mfhca_train.training import process
from mfhca_train.training.evaluate import predict_batch
from mfhca_train.training.fit import fit

GB = 10**9


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The memory of a made-up GPU, to be changed.

    Torch's questions about CUDA are answered here, not by a GPU: on a machine without one there is no other
    way to try these rules.
    """
    memory = {"free": 40 * GB, "total": 80 * GB, "reserved": 0, "allocated": 0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (memory["free"], memory["total"]))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: memory["reserved"])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: memory["allocated"])
    return memory


def test_half_of_the_free_memory_is_for_the_features_of_all_folds_side_by_side(gpu: dict[str, int]) -> None:
    assert process.has_room("cuda", 20 * GB, 1)
    assert not process.has_room("cuda", 20 * GB + 1, 1)
    assert process.has_room("cuda", 5 * GB, 4)
    assert not process.has_room("cuda", 5 * GB, 5)
    gpu["free"] = 8 * GB  # another program has come
    assert not process.has_room("cuda", 5 * GB, 1)


def test_what_the_last_fold_left_in_torchs_hands_is_free(gpu: dict[str, int]) -> None:
    gpu |= {"free": 4 * GB, "reserved": 30 * GB, "allocated": 2 * GB}
    assert process.has_room("cuda:0", 16 * GB, 1)
    assert not process.has_room("cuda:0", 16 * GB + 1, 1)


def test_parallel_processes_need_semaphores() -> None:
    assert process.why_no_workers(2) is None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # each is a file while it is created
    try:
        assert process.why_no_workers(2) == "Too many open files"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_variables_that_libraries_compute_by_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    before = process.environment("cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # torch is told the number of threads
    monkeypatch.setenv("NUMBA_OPT", "")
    assert process.environment("cpu") == before
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert process.environment("cpu")["versions"] == before["versions"] | {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def test_on_the_processor_features_stay_in_the_page_cache() -> None:
    assert not process.has_room("cpu", 1, 1)


@pytest.mark.parametrize(
    ("device", "cores", "threads", "jobs"),
    [
        ("cpu", 8, 1, 8),
        ("cpu", 8, 3, 2),
        ("cpu", 2, 4, 1),
        ("cuda", 16, 1, process.FOLDS_PER_ACCELERATOR),
        ("cuda", 2, 1, 2),
        ("mps", 8, 8, 1),
    ],
)
def test_jobs_by_default_fill_the_cores_or_the_accelerator(
    device: str, cores: int, threads: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.hardware, "cores", lambda: cores)
    assert process.default_jobs(device, threads) == jobs


def test_the_code_of_scores_and_networks_is_recorded_like_a_version() -> None:
    """Which epoch is selected follows from the scores, so an edit of theirs counts as an edit of the training does."""
    package = Path(process.__file__).parents[1]
    recorded = {path for pattern in process.COMPUTING for path in package.glob(pattern)}
    deciding = (mean_over_segments, scores, MFHCA, make_folds, fit, predict_batch)
    assert recorded >= {Path(inspect.getsourcefile(inspect.unwrap(thing)) or "") for thing in deciding}
    assert process.versions()["code"] == code_digest(package, *process.COMPUTING)


def test_processors_that_compute_in_other_ways_have_other_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All are AVX512 to torch, but MKL and oneDNN do not give all of them the same last digits."""
    kinds = set()
    for vendor in ("GenuineIntel", "AuthenticAMD"):
        for units in ("", " avx512_bf16", " avx512_bf16 amx_bf16"):
            answers = {"vendor_id": vendor, "flags": f"fpu sse2 avx512f{units}"}
            monkeypatch.setattr(hardware, "_read_field", lambda _, *names, a=answers: a[names[0]])
            kinds.add(process.environment("cpu")["cpu"])
    assert len(kinds) == 6


def test_the_versions_of_what_trains_linear_classifiers_are_recorded() -> None:
    assert {"scikit-learn", "scipy"} <= process.versions().keys()
