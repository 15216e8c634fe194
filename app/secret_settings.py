"""Settings that are secret: read from a variable or from the file that its `_FILE` names, and refused where they can be
guessed. Also the secrets that this gateway makes and keeps in the data dir. No error repeats a secret."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

__all__ = ["SettingsError", "check_key", "kept_secret", "new_secret", "read_secret"]

_CHARACTERS_LEAST = 16
_DIFFERENT_LEAST = 6  # 16 random hexadecimal digits have fewer once in 30,000 times
_MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"


class SettingsError(Exception):
    """A variable of the environment has a value that can't be used; the text names it."""


def read_secret(environ: Mapping[str, str], name: str) -> str:
    """The value of the variable `name`, or the text of the file that `{name}_FILE` names, stripped.

    It is empty where neither is set. Raises SettingsError where both are, or where the file can't be read or is empty.
    """
    text, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if not file:
        return text
    if text:
        raise SettingsError(f"{name} and {name}_FILE are both set: unset one of them")
    try:
        text = Path(file).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{name}_FILE names {file}, which can't be read: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a NUL in the path
        raise SettingsError(f"{name}_FILE names {file!r}, which can't be read as a text in UTF-8") from None
    if not text:
        raise SettingsError(f"{name}_FILE names {file}, which is empty")
    return text


def check_key(name: str, key: str) -> None:
    """Raises SettingsError where the key `name` is short, or made of so few characters that it can be guessed."""
    if len(key) < _CHARACTERS_LEAST:
        raise SettingsError(f"{name} must have {_CHARACTERS_LEAST} characters at least; this makes one: {_MAKE_ONE}")
    if len(set(key)) < _DIFFERENT_LEAST:
        raise SettingsError(
            f"{name} must have {_DIFFERENT_LEAST} different characters at least; this makes one: {_MAKE_ONE}"
        )


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def kept_secret(file: Path, name: str) -> str:
    """The secret in a file that its owner alone may read, made by whoever comes first: linking is atomic, so that two
    starts agree on one. Raises SettingsError, which names it by `name`, where the file was cut."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not file.exists():
        draft = file.parent / f".secret.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(new_secret())
        try:
            file.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = file.read_text().strip()
    check_key(name, secret)
    return secret
