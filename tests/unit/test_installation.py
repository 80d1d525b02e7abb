from pathlib import Path

import ociaudit


def test_the_suite_runs_on_the_installed_wheel() -> None:
    """What is tested is what users install, and not the checkout."""
    assert Path(ociaudit.__file__).resolve().parents[1].name == "site-packages"


def test_the_wheel_carries_its_types_and_the_emulator() -> None:
    """Type checkers find the marker, and the demo finds its server."""
    package = Path(ociaudit.__file__).parent
    assert (package / "py.typed").is_file()
    assert (package.parent / "ociaudit_emulator" / "__main__.py").is_file()
