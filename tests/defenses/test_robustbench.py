"""Networks of RobustBench, by its own package, from files in the local model folder."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from robench.boards.published.robustbench import loader_rows
from robench.cli.main import app
from robench.core.errors import InputError
from robench.core.folders import models_folder
from robench.defenses import robustbench_files
from robench.defenses.reference import load_defense, load_for
from robench.defenses.schemes import robustbench
from robench.defenses.settings import Settings
from robench.models.robustbench_compat import import_robustbench

try:
    version("robustbench")
except PackageNotFoundError:
    pytestmark = pytest.mark.skip(reason="robustbench is not installed: make setup")

ID = "Sehwag2021Proxy_R18"
"""A plain ResNet-18: the natural one of pyautoattack has the same names and shapes."""
REF = f"robustbench:cifar10/Linf/{ID}"
FILE = Path("cifar10/Linf", f"{ID}.pt")


@pytest.fixture
def zoo():
    return import_robustbench()


@pytest.fixture
def offline(monkeypatch):
    """What would be downloaded, and no connection; a test may put its own download in place."""
    asked = []

    def fetch(part, path):
        asked.append(part)
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(robustbench_files, "_fetch", fetch)
    return asked


@pytest.fixture
def natural():
    return load_defense("natural-resnet18")


def save(folder, network, file=FILE):
    """The weights as published checkpoints have them: wrapped, with a prefix and other things."""
    path = folder / file
    path.parent.mkdir(parents=True)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7}, path)
    return path


def test_every_linf_id_gives_a_loader_or_a_clear_message(here, offline, zoo):
    rows = [row for row in loader_rows() if row.threat_model == "Linf"]
    assert len(rows) == 144
    downloads, others = [], []
    for row in rows:
        with pytest.raises(InputError) as caught:
            load_defense(f"robustbench:{row.dataset}/Linf/{row.id}")
        message = str(caught.value)
        assert "\n" not in message and row.id in message
        place = f"models/{row.dataset}/Linf/{row.id}.pt"
        (downloads if f"there is no {place}" in message else others).append(message)
    assert len(downloads) == len(offline) == 143
    assert all("ConnectionError: no route to host" in message for message in downloads)
    assert all(part.url.startswith("https://") for part in offline)
    assert others == [
        "robustbench:imagenet/Linf/Standard_R50 has torchvision's own weights: robench eval "
        "--defense 'torchvision:resnet50[weights=PATH]'"
    ]


def test_every_l2_id_is_known(zoo):
    known = {(e.dataset, e.threat, e.id) for e in robustbench.entries(zoo)}
    rows = {(r.dataset, r.threat_model, r.id) for r in loader_rows()}
    assert known == {row for row in rows if row[1] in ("Linf", "L2")}


def test_a_local_file_is_loaded_by_the_package(here, offline, natural):
    path = save(here / "models", natural.model)
    defense = load_defense(REF)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(defense.model(images), natural.model(images))
    assert (defense.name, defense.scheme, defense.ref) == (ID, "robustbench", REF)
    assert (defense.architecture, defense.parameters) == (REF, natural.parameters)
    assert (defense.dataset, defense.norm, defense.eps) == ("cifar10", "linf", 8 / 255)
    assert (defense.num_classes, defense.normalization) == (10, "none")
    assert type(defense.model).__module__ == "robustbench.model_zoo.architectures.resnet"
    assert Path(defense.source["path"]) == path.relative_to(here)
    assert not any(p.requires_grad for p in defense.model.parameters())
    assert offline == []


def test_it_is_scored_by_the_same_path_and_compared(here, offline, natural):
    save(here / "models", natural.model)
    score = ["--attacks", "fgsm", "--dataset", "cifar10-sample", "--n", "8", "--out", "records"]
    result = CliRunner().invoke(app, ["eval", "--defense", f"robustbench:{ID}", *score])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if "published" in line]
    # The natural network has all 8 right; the published one 84.59 % of all.
    assert line == f"{ID}: published clean 84.59 %, ours 100.00 % [67.6, 100.0]: agrees"
    assert "Sehwag2021Proxy_R18 on cifar10-sample, linf eps 8/255" in result.stdout


@pytest.mark.parametrize(
    ("dataset", "norm", "board"),
    [("cifar10", "l2", "cifar10/L2"), ("cifar10", "linf", "cifar10/Linf"), (None, "l2", None)],
)
def test_data_set_and_norm_decide_a_short_form(zoo, dataset, norm, board):
    settings, text = Settings(dataset=dataset, norm=norm), "Wang2023Better_WRN-28-10"
    if board is None:  # one is of that norm
        assert robustbench.find(text, settings, zoo).board == "cifar10/L2"
    else:
        assert robustbench.find(text, settings, zoo).board == board
    cifar100 = Settings(dataset="cifar100", norm="l2")
    assert robustbench.find(text, cifar100, zoo).board == "cifar100/Linf"


@pytest.mark.parametrize(
    ("said", "eps"), [("eps = '4/255'", 0.5), ("eps = 0.25\nnorm = 'l2'", 0.25), ("", 0.5)]
)
def test_a_radius_of_linf_is_not_one_of_an_l2_network(here, offline, natural, said, eps):
    save(here / "models", natural.model, Path("cifar10/L2", f"{ID}.pt"))
    entry = f"[defenses.own]\nref = 'robustbench:cifar10/L2/{ID}'\n{said}\n"
    (here / "robench.toml").write_text(entry)
    defense = load_defense("own")
    assert (defense.norm, defense.eps) == ("l2", eps)


def test_a_short_form_is_written_out_for_the_record(here, offline, natural):
    save(here / "models", natural.model, Path("cifar10/L2", f"{ID}.pt"))
    defense = load_for("cifar10", f"robustbench:{ID}", "l2")
    assert (defense.ref, defense.eps) == (f"robustbench:cifar10/L2/{ID}", 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ID, f"means several: {REF}, robustbench:cifar10/L2/{ID}$"),
        (
            "cifar10/Linf/Wong2020Fsat",
            "has no 'cifar10/Linf/Wong2020Fsat': did you mean 'Wong2020F",
        ),
        ("Wong2020Fsat", "has no 'Wong2020Fsat': did you mean 'Wong2020Fast'"),
        ("cifar10/linf/Wong2020Fast", "expected robustbench:<dataset>/<Linf.L2>/<id>"),
        ("cifar10/corruptions/Standard", "one of cifar10/Linf, cifar10/L2, cifar100/Linf, imag"),
        ("cifar100/L2/Wong2020Fast", "one of cifar10/Linf"),
        ("../../etc/x", "expected robustbench:"),
        ("", "has no ''"),
    ],
)
def test_ids_that_name_nothing_or_too_much(here, offline, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load_defense(f"robustbench:{text}")
    assert "\n" not in str(caught.value)


def test_a_saved_web_page_is_recognised(here, offline):
    path = here / "models" / FILE
    path.parent.mkdir(parents=True)
    path.write_text(
        "\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"
    )
    with pytest.raises(InputError, match=rf"{ID}\.pt is a web page, not a checkpoint"):
        load_defense(REF)
    assert offline == []


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_file_is_executed(here, offline, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = here / "models" / FILE
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(InputError, match="needs pickled objects"):
        load_defense(REF)
    assert not (here / "executed").exists()


def test_weights_of_another_network_are_refused_on_one_line(here, offline, checkpoint):
    _, network = checkpoint()
    save(here / "models", network)
    with pytest.raises(InputError, match=f"{REF} raised RuntimeError: .*Missing key") as caught:
        load_defense(REF)
    assert "\n" not in str(caught.value)


def test_a_download_goes_to_the_users_folder_and_is_kept(here, monkeypatch, natural):
    def fetch(part, path):
        assert part.place == FILE and part.url == f"https://drive.google.com/uc?id={part.drive}"
        save(path.parent, natural.model, Path("made", path.name)).replace(path)

    monkeypatch.setattr(robustbench_files, "_fetch", fetch)
    assert load_defense(REF).source["path"] == str(models_folder() / FILE)
    monkeypatch.setattr(robustbench_files, "_fetch", None)
    assert load_defense(REF).num_classes == 10
    assert [p.name for p in (models_folder() / FILE).parent.iterdir()] == [FILE.name]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>sign in</html>", "a web page came instead of the file"),
        (b"", "nothing came"),
        (None, "nothing came"),
    ],
)
def test_what_is_no_checkpoint_is_not_kept(here, monkeypatch, content, reason):
    def fetch(part, path):
        if content is not None:
            path.write_bytes(content)

    monkeypatch.setattr(robustbench_files, "_fetch", fetch)
    with pytest.raises(InputError, match=f"impossible here .{reason}.: get https://drive.google"):
        load_defense(REF)
    assert list((models_folder() / FILE).parent.iterdir()) == []


def test_an_ensemble_asks_for_what_is_missing(here, offline, natural):
    name = "Chen2020Adversarial"
    for i in (0, 2):
        path = here / "models/cifar10/Linf" / f"{name}.pt_m{i}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(InputError, match=rf"there is no models/cifar10/Linf/{name}\.pt_m0\.pt"):
        load_defense(f"robustbench:cifar10/Linf/{name}")
    # Nothing is put into a folder that is not ours: all parts are looked for in the user's.
    assert [part.place.name for part in offline] == [f"{name}.pt_m0.pt"]


@pytest.mark.slow
def test_a_transformer_of_timm_is_loaded_and_not_downloaded(here, offline, zoo):
    name = "debenedetti2022light_xcit_s12_cifar10_linf"
    torch.manual_seed(0)
    network = zoo.timm.create_model(name, num_classes=10, pretrained=False).eval()
    torch.nn.init.normal_(network.get_submodule("model.head").weight)
    path = here / "models/cifar10/Linf/Debenedetti2022Light_XCiT-S12.pt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": network.state_dict()}, path)
    defense = load_defense("robustbench:cifar10/Linf/Debenedetti2022Light_XCiT-S12")
    loaded, images = defense.model.state_dict(), torch.rand(2, 3, 32, 32)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
    with torch.no_grad():  # a linear layer's rounding depends on where its values lie in memory
        torch.testing.assert_close(defense.model(images), network(images), rtol=1e-5, atol=1e-5)
