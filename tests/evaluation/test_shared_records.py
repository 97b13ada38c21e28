"""Records that people share: no absolute path in them, and still usable; a radius in its norm."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import robench
from robench.attacks.resolve import resolve_attacks
from robench.cli.main import app
from robench.core.errors import InputError
from robench.core.record import Record, read_record
from robench.core.threat import ThreatModel
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense
from robench.evaluation.engine import Job
from robench.evaluation.reverify import reverify
from robench.evaluation.run import Options, threat_for
from robench.evaluation.surrogate import Surrogates
from robench.models.build import build
from robench.models.weights import write_weights


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Networks and an image folder, outside the current folder."""
    images = load_evalset("cifar10-sample").first(8)
    for place, (pixels, label) in enumerate(zip(images.images, images.labels % 3, strict=True)):
        folder = tmp_path / "data" / "photos" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{place}.png")
    for name, seed in (("mine", 0), ("a/other", 1), ("b/other", 2)):
        torch.manual_seed(seed)
        network = build("resnet18", 3, 2)
        write_weights(tmp_path / "data" / f"{name}.pt", network.state_dict(), {})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "data"


def measured(place: Path, attacks: str = "fgsm", **options: object) -> tuple[Path, Record]:
    dataset = options.pop("dataset", str(place / "photos"))
    result = robench.evaluate(
        str(place / "mine.pt"), attacks, dataset=dataset, out=Path("out"), **options
    )
    path = Path(result.rows[0].record or "")
    return path, read_record(path)


def test_a_record_has_names_and_can_be_judged_again_elsewhere(place: Path) -> None:
    path, record = measured(place, save_adversarial=True)
    assert (record.defense.ref, record.images.ref) == ("mine.pt", "photos")
    assert str(place.parent) not in path.read_text()
    photos = str(place / "photos")
    with pytest.raises(InputError, match=r"say --dataset REF"):
        reverify(path)
    with pytest.raises(InputError, match=r"mine\.pt does not exist .*say --defense REF"):
        reverify(path, dataset=photos)
    with pytest.raises(InputError, match=r"is not the defense of .*: its fingerprint differs$"):
        reverify(path, defense=str(place / "a" / "other.pt"), dataset=photos)
    given = ["--defense", f"{place}/mine.pt", "--dataset", f"{place}/photos"]
    done = CliRunner().invoke(app, ["verify", str(path), *given])
    assert done.exit_code == 0 and "8 images judged again" in done.stdout
    (photo,) = (place / "photos").rglob("0.png")
    photo.unlink()
    with pytest.raises(InputError):
        reverify(path, defense=given[1], dataset=given[3])


def test_what_lies_below_the_current_folder_is_told_from_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.parent)
    path, record = measured(place, save_adversarial=True)
    assert (record.defense.ref, record.images.ref) == ("data/mine.pt", "data/photos")
    assert reverify(path).checked == 8


def test_surrogates_of_one_file_name_are_not_mixed_up(place: Path) -> None:
    images = load_evalset(str(place / "photos"))
    surrogates = Surrogates(images, "photos", "photos", torch.device("cpu"), "fp32")
    (transfer,) = resolve_attacks("transfer_pgd_trades")
    files = [str(place / folder / "other.pt") for folder in ("a", "b")]
    assert surrogates.named(",".join(files)) == files
    settled = [surrogates.settled(transfer, file) for file in files]
    assert [attack.info.parameters["surrogate"] for attack in settled] == ["other.pt", "other.pt"]
    for attack, file in zip(settled, files, strict=True):
        job = Job(attack, ThreatModel(), "last")
        target, _, _ = surrogates.crafting(job, None)
        assert target.defense.fingerprint == load_defense(file).fingerprint
        assert surrogates.why_not(attack, target) is not None
    assert surrogates.why_not(settled[0], surrogates.target(files[1])) is None


@pytest.mark.parametrize(
    ("said", "norm", "eps"),
    [
        ("eps = '4/255'", "linf", 4 / 255),
        ("eps = '4/255'", "l2", 0.5),
        ("eps = 0.25\nnorm = 'l2'", "l2", 0.25),
        ("eps = 0.25\nnorm = 'l2'", "linf", 8 / 255),
    ],
)
def test_a_radius_without_a_norm_is_one_of_linf(
    place: Path, said: str, norm: str, eps: float
) -> None:
    Path("robench.toml").write_text(f"[defenses.own]\nref = '{place}/mine.pt'\n{said}\n")
    assert threat_for(load_defense("own"), Options(norm=norm)).eps == eps
    metadata = dict(line.replace("'", "").split(" = ") for line in said.split("\n"))
    write_weights(Path("x.safetensors"), build("resnet18", 3, 2).state_dict(), metadata)
    assert threat_for(load_defense("x.safetensors"), Options(norm=norm)).eps == eps
