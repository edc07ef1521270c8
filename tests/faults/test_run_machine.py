"""Any history of starts, deaths, resumes, other models, damage and repairs ends in the bytes of one undisturbed run."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from faults import Crash, Faults, failing_system
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from inline import REFUSALS, drive, is_image, stored, tiny_job
from networks import make_checkpoint, make_image

from pipeline.errors import RunMismatchError
from pipeline.run.folder import RunFolder
from pipeline.run.journal import replay
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE
from pipeline.run.repair import reopen, repair
from pipeline.run.verify import verify
from pipeline.store import open_place
from pipeline.volume import digest_bytes

pytestmark = pytest.mark.slow

MODELS = ("one", "two")
CHUNKS = 4


class Histories(RuleBasedStateMachine):
    """One output, two models, and everything that can happen to it."""

    root: Path
    expected: dict[str, tuple[str, dict[str, bytes]]]
    """Of each model: the root digest and the stored bytes of a run that nothing disturbs."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.root))
        self.output = self.folder / "out.zarr"
        self.model = MODELS[0]
        self.damaged = False

    def teardown(self):
        try:
            self.finish()
        finally:
            shutil.rmtree(self.folder)

    @rule(model=st.sampled_from(MODELS))
    def choose_a_model(self, model):
        self.model = model

    @rule()
    def start(self):
        self.attempt(Faults())

    @rule(nth=st.integers(1, 130))
    def start_and_die(self, nth):
        self.attempt(Faults(nth, "crash"))

    @rule(nth=st.integers(1, 130), kind=st.sampled_from(["short", "input-output", "full"]))
    def start_on_a_failing_disk(self, nth, kind):
        self.attempt(Faults(nth, kind))

    @precondition(lambda self: stored(self.output))
    @rule(which=st.integers(0, CHUNKS - 1), bit=st.integers(0, 10_000))
    def corrupt_output(self, which, bit):
        path = self.stored_file(which)
        data = bytearray(path.read_bytes())
        if data:
            data[bit // 8 % len(data)] ^= 1 << bit % 8
        path.write_bytes(data)
        self.damaged = True

    @precondition(lambda self: stored(self.output))
    @rule(which=st.integers(0, CHUNKS - 1))
    def delete_output(self, which):
        self.stored_file(which).unlink()
        self.damaged = True

    @precondition(lambda self: self.recorded)
    @rule(chunk=st.integers(0, CHUNKS - 1))
    def requeue(self, chunk):
        folder = RunFolder(self.output)
        with folder.lease() as lease:
            reopen(folder)
            ledger = Ledger(folder.journal, CHUNKS, epoch=lease.epoch, check=lease.check)
            ledger.requeue([chunk], "the test wished it")
            ledger.close()

    @precondition(lambda self: self.recorded)
    @rule()
    def verify_and_repair(self):
        repair(self.output)
        self.damaged = False
        assert verify(self.output).missing == ()
        assert verify(self.output).damaged == ()

    @invariant()
    def what_is_claimed_is_there(self):
        """No claim whose bytes are others, once damage from outside has been looked for; no mix of two models."""
        if self.damaged or not self.recorded:
            return
        folder = RunFolder(self.output)
        ledger, found = Ledger(folder.journal, CHUNKS), stored(self.output)
        last = {r.chunk: r for r in replay(folder.journal) if r is not None and r.state == DONE}
        for chunk, record in last.items():
            if ledger.state(chunk) != DONE:
                continue
            for claim in record.done.stored:
                assert digest_bytes(found[claim.key]) == claim.digest
                assert found[claim.key] == self.expected[self.recorded][1][claim.key]

    @invariant()
    def what_looks_finished_is(self):
        if is_image(open_place(self.output)):
            folder = RunFolder(self.output)
            assert folder.state == "sealed"
            assert Ledger(folder.journal, CHUNKS).is_complete()

    @property
    def recorded(self):
        """The model of the run that is recorded at the output, if there is one."""
        path = self.output.with_name("out.zarr.run") / "run.json"
        return Path(json.loads(path.read_text())["settings"]["model"]).stem if path.exists() else None

    def attempt(self, faults):
        """Start the job with the chosen model; it may die, fail, or be refused, and says so."""
        before, bytes_before = self.recorded, stored(self.output)
        with failing_system(faults, self.folder):
            try:
                drive(self.job(self.model))
            except RunMismatchError:
                assert before not in (None, self.model)
            except (Crash, *REFUSALS):
                assert faults.struck or self.damaged
            else:
                assert self.recorded == self.model
        if before not in (None, self.recorded):
            assert not bytes_before, "only a run that had stored nothing gives way to another"
        if self.recorded != self.model:
            assert stored(self.output) == bytes_before

    def finish(self):
        """Whatever has happened: repair, resume, and the result is that of the recorded model."""
        if self.recorded:
            self.model = self.recorded
            self.verify_and_repair()
        drive(self.job(self.model))
        root, chunks = self.expected[self.model]
        found = verify(self.output)
        assert found.ok
        assert found.root == found.sealed_root == root
        assert stored(self.output) == chunks

    def job(self, model):
        return tiny_job(self.root, self.output, model=str(self.root / f"{model}.safetensors"))

    def stored_file(self, which):
        keys = sorted(stored(self.output))
        return self.output / "0" / keys[which % len(keys)]


def test_any_history_ends_in_the_bytes_of_one_undisturbed_run(tmp_path):
    make_image(tmp_path / "image.zarr", (64, 64), channels=1, shard=(32, 32))
    expected = {}
    for seed, model in enumerate(MODELS):
        make_checkpoint(tmp_path / f"{model}.safetensors", seed=seed, depth=1, width=2, padding="same")
        output = tmp_path / f"{model}.zarr"
        drive(tiny_job(tmp_path, output, model=str(tmp_path / f"{model}.safetensors")))
        expected[model] = (verify(output).root, stored(output))
    one, two = (expected[model][1] for model in MODELS)
    assert all(one[key] != two[key] for key in one), "a mix of the two could not be told"
    machine = type("Histories", (Histories,), {"root": tmp_path, "expected": expected})
    patient = settings(
        max_examples=40,
        stateful_step_count=10,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # a history is short enough to be read as it is
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase.settings = patient
    machine.TestCase().runTest()
