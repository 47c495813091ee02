"""`hvd finetune kitti` and `hvd eval kitti` as typed, on KITTI files of a few points."""

import json
import subprocess
import sys

from hvd.datasets.kitti_files import read_results
from tests.cli.test_bad_data import assert_refused, hvd, published  # noqa: F401  a fixture
from tests.datasets.tiny_kitti import write_kitti

SMOKE = ("--recipe", "smoke", "--workers", "0")


def test_a_detector_from_labels_to_figures(hvd, tmp_path):  # noqa: F811
    root = write_kitti(tmp_path / "kitti")
    data = ("--root", root, *SMOKE)
    assert_refused(hvd, ("eval", "kitti", *data), 3, "no finetune-detection artifact", "hvd finetune kitti")
    assert_refused(hvd, ("finetune", "kitti", *data), 3, "no pretrain artifact", "hvd pretrain")
    code, out, _ = hvd("finetune", "kitti", "--from", "scratch", "--labels", "50%", "--json", *data)
    trained = json.loads(out)
    assert code == 0 and trained["metrics"]["labelled_frames"] == 1  # of the two with even numbers
    code, out, errors = hvd("eval", "kitti", "--json", *data)
    scored = json.loads(out)
    assert code == 0 and scored["metrics"]["map"] is None, "all objects are under 25 pixels high"
    assert "no class: none has an object that counts" in errors
    assert "kitti, paper val (2 frames); detector trained on 50% of frames (offset 0, 1 frames)" in errors
    results = sorted((tmp_path / "work" / scored["path"] / "results" / "data").iterdir())
    assert [path.stem for path in results] == ["000001", "000003"]
    assert all(read_results(path).score is not None for path in results)
    assert json.loads(hvd("eval", "kitti", "--json", *data)[1])["state"] == "hit"
    lines = [line.split() for line in hvd("eval", "kitti", *data)[1].splitlines()]
    assert lines[0] == ["class", "AP,", "%", "easy", "moderate", "hard", "objects"]
    assert lines[1] == ["Car", "3D", "-", "-", "-", "0,", "0,", "0"] and len(lines) == 1 + 3 * 4


def test_options_that_make_no_sense(hvd, tmp_path):  # noqa: F811
    assert_refused(hvd, ("finetune", "kitti", "--linear-probe"), 2, "no linear probe")
    lovasz = ("--set", "finetune.kitti.lovasz=true")
    data = ("--root", write_kitti(tmp_path / "kitti"), *SMOKE)
    assert_refused(hvd, ("finetune", "kitti", *data, *lovasz), 2, "unknown option finetune.kitti.lovasz")
    tuned, probed = ("--set", "finetune.nuscenes.steps=3"), ("--set", "probe.nuscenes.steps=3")
    assert_refused(hvd, ("finetune", "nuscenes", "--linear-probe", *tuned), 2, "does nothing here")
    assert_refused(hvd, ("finetune", "nuscenes", *probed), 2, "does nothing here", "finetune.* that is read")
    assert_refused(hvd, ("finetune", "kitti", *data, "--labels", "x"), 2, "bad labelled part")
    assert_refused(hvd, ("finetune", "kitti", *data, "--from", "no/such.pt"), 3, "no such weights file")
    assert published() == []


def test_a_bad_label_stops_the_command(hvd, tmp_path):  # noqa: F811
    root = write_kitti(tmp_path / "kitti")
    path = root / "training" / "label_2" / "000002.txt"
    path.write_text(path.read_text().replace("Car", "Cat"))
    arguments = ("finetune", "kitti", "--from", "scratch", "--root", root, *SMOKE)
    assert_refused(hvd, arguments, 3, "000002.txt, line 1", "unknown class 'Cat'")
    assert published() == ["frames"]


def test_planning_loads_no_torch(tmp_path):
    root = write_kitti(tmp_path / "kitti")
    script = (
        "import sys\nimport stages.plans, stages.recipes\n"
        "assert not {'torch', 'numpy'} & set(sys.modules), 'at import'\n"
        "from hvd.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert not {'torch', 'spconv'} & set(sys.modules), 'torch was loaded'\n"
    )
    command = ["finetune", "kitti", "--from", "scratch", "--dry-run", "--root", str(root), *SMOKE]
    done = subprocess.run([sys.executable, "-c", script, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "finetune-detection" in done.stdout
