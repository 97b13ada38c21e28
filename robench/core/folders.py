"""Where user files live: ROBENCH_HOME, or the platform's data folder."""

import os
from pathlib import Path


def home() -> Path:
    """The root of the user's data, runs and records."""
    chosen = os.environ.get("ROBENCH_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("robench", appauthor=False)


def data_folder() -> Path:
    """Where fetched data sets are kept."""
    return home() / "data"


def runs_folder() -> Path:
    """Where `robench train` leaves its runs, and references find their checkpoints."""
    return home() / "runs"


def models_folder() -> Path:
    """Where downloaded model files of others are kept."""
    return home() / "models"


def crafted_folder() -> Path:
    """Where candidates crafted on surrogates are kept, to be used again."""
    return home() / "crafted"


def records_folder() -> Path:
    """Where records go unless `--out` or `robench.toml` says otherwise."""
    return home() / "records"
