"""Secret settings: keys that can be guessed are refused, and each may come from a file."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings
from tests.gateway import ADMIN_KEY, ROOT, Gateway

KEYS = ("TOLLGATE_ADMIN_KEY", "TOLLGATE_SECRET_KEY")
SECRETS = (
    ("TOLLGATE_ADMIN_KEY", "admin_key", ADMIN_KEY),
    ("TOLLGATE_SECRET_KEY", "secret_key", "a secret key that comes from a file"),
    ("TOLLGATE_OLD_SECRET_KEY", "old_secret_key", "short"),  # one of an earlier version may be, until it is rotated
    ("TOLLGATE_DATABASE_URL", "database_url", "postgresql+asyncpg://tollgate:secret@db/tollgate"),
    ("TOLLGATE_REDIS_URL", "redis_url", "redis://:secret@cache:6379/1"),
)


def _load(data_dir: Path, **variables: str) -> Settings:
    return load_settings({"TOLLGATE_DATA_DIR": str(data_dir), **variables})


@pytest.mark.parametrize("variable", KEYS)
@pytest.mark.parametrize("key", ["a", "x" * 15, "a" * 64, "ab" * 32, "12345" * 9, "0123456789abcde"])
def test_a_key_that_can_be_guessed_is_refused(tmp_path: Path, variable: str, key: str) -> None:
    """The error names the variable, shows a command that makes a good one, and does not repeat the key."""
    with pytest.raises(SettingsError, match=variable) as refused:
        _load(tmp_path, **{variable: key})
    assert "secrets.token_urlsafe(32)" in str(refused.value)
    assert key == "a" or key not in str(refused.value)


@pytest.mark.parametrize("variable", KEYS)
def test_the_command_of_the_refusal_makes_a_key_that_is_taken(tmp_path: Path, variable: str) -> None:
    """An operator runs what the error says, and the gateway starts."""
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, **{variable: "a"})
    command = str(refused.value).partition("makes one: ")[2].replace("python3", sys.executable)
    made = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    assert getattr(_load(tmp_path, **{variable: made}), variable.removeprefix("TOLLGATE_").lower()) == made


@pytest.mark.parametrize(
    "key",
    [
        ADMIN_KEY,
        "0123456789abcdef",
        "0123456789abcdef0123456789abcdef",
        "9f86d081-884c-4d65-9a2f-eaa0c55ad015",
        "ключ, который не угадать никогда",
    ],
)
def test_other_keys_are_taken(tmp_path: Path, key: str) -> None:
    """16 characters are enough, whatever they are: hexadecimal digits, a UUID, words."""
    settings = _load(tmp_path, TOLLGATE_ADMIN_KEY=key, TOLLGATE_SECRET_KEY=key)
    assert (settings.admin_key, settings.secret_key) == (key, key)


def test_a_kept_secret_that_was_cut_is_refused(tmp_path: Path) -> None:
    """A disk that was full leaves an empty file; sealing with nothing would be no sealing."""
    (tmp_path / "secret.key").write_text("")
    with pytest.raises(SettingsError, match=r"secret\.key"):
        _load(tmp_path)


@pytest.mark.parametrize(("variable", "field", "value"), SECRETS)
def test_a_secret_comes_from_a_file(tmp_path: Path, variable: str, field: str, value: str) -> None:
    """As Docker and Kubernetes hand secrets in; the line's end is not part of it."""
    file = tmp_path / "mounted"
    file.write_text(f"{value}\n")
    assert getattr(_load(tmp_path, **{f"{variable}_FILE": str(file)}), field) == value


@pytest.mark.parametrize(("variable", "field", "value"), SECRETS)
def test_a_secret_given_twice_is_refused(tmp_path: Path, variable: str, field: str, value: str) -> None:
    """Nobody has to guess which of the two holds, even where they say the same."""
    file = tmp_path / "mounted"
    file.write_text(value)
    with pytest.raises(SettingsError, match=f"{variable} and {variable}_FILE are both set"):
        _load(tmp_path, **{variable: value, f"{variable}_FILE": str(file)})


@pytest.mark.parametrize(("variable", "field", "value"), SECRETS)
@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_file_that_holds_no_secret_is_named(
    tmp_path: Path, variable: str, field: str, value: str, content: bytes | None
) -> None:
    """Missing, empty or not a text: the gateway does not go on as if the variable were unset."""
    file = tmp_path / "mounted"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"{variable}_FILE names .*mounted"):
        _load(tmp_path, **{f"{variable}_FILE": str(file)})


def test_a_key_from_a_file_is_checked_too(tmp_path: Path) -> None:
    """A file makes a short key no longer."""
    file = tmp_path / "mounted"
    file.write_text("short\n")
    with pytest.raises(SettingsError, match="TOLLGATE_ADMIN_KEY must have 16 characters"):
        _load(tmp_path, TOLLGATE_ADMIN_KEY_FILE=str(file))


@pytest.mark.parametrize("variable", KEYS)
def test_serve_does_not_start_with_a_short_key(tmp_path: Path, variable: str) -> None:
    """One line on standard error, exit 2, and nothing was made in the data dir."""
    gateway = Gateway(tmp_path, **{variable: "b"})
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        cwd=ROOT,
        env=gateway.process_environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert variable in run.stderr
    assert not gateway.data_dir.exists()
