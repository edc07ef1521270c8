"""The main job by the command line on a TLS cluster of processes: the same voxels as on this machine."""

import json

import numpy as np
import pytest
import zarr
from clusters import certificates, ended, tls_scheduler, tls_worker
from networks import make_checkpoint, make_image

from pipeline.cli.main import run

pytestmark = pytest.mark.slow


def test_a_tls_cluster_gives_the_voxels_of_this_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=4, padding="same")
    make_image(tmp_path / "in.zarr", (200, 200), shard=(64, 64))
    tls = certificates(tmp_path / "tls")
    job = ["--model", "model.safetensors", "--chunk", "64,64", "--json"]
    shown = ["--tls-ca", tls.ca, "--tls-cert", "tls/client.pem", "--tls-key", "tls/client-key.pem"]
    with tls_scheduler(tmp_path, tmp_path / "tls") as address:
        with ended(tls_worker(address, tmp_path, tmp_path / "tls")):
            assert run(["segment", "in.zarr", "there.zarr", "--scheduler", address, *shown, *job]) == 0
            assert json.loads(capsys.readouterr().out)["state"] == "sealed"
            assert run(["doctor", "--scheduler", address, *shown, "--json"]) == 0
            checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
            assert (checks["scheduler"]["state"], checks["scheduler"]["advice"]) == ("ok", "")
        assert run(["segment", "in.zarr", "other.zarr", "--scheduler", address, *job]) == 2
        assert "TLS needs --tls-ca" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "other.zarr").exists()
    assert run(["segment", "in.zarr", "here.zarr", "--workers", "1", *job]) == 0
    there, here = (
        zarr.open_array(str(tmp_path / name / "0"), mode="r")[:] for name in ("there.zarr", "here.zarr")
    )
    np.testing.assert_array_equal(there, here)
