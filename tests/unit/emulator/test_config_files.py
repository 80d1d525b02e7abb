import configparser
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ociaudit_emulator.config_files import ConfigFolderError, ConfigRequest, trust_config, write_config
from ociaudit_emulator.signature import KeyRing, compute_fingerprint
from ociaudit_emulator.tenancy import make_tenancy

TENANCY = make_tenancy(1)
NOW_SECONDS = 1_765_000_000.0


def make_ring(seconds=NOW_SECONDS):
    """A key ring with a stopped clock."""
    return KeyRing(lambda: seconds)


def write_folder(folder, *, pass_phrase=None, session_minutes=60.0):
    """A written configuration, and the key ring that trusts it."""
    ring = make_ring()
    write_config(ConfigRequest(folder, pass_phrase, session_minutes, NOW_SECONDS), TENANCY, ring)
    config = configparser.ConfigParser(interpolation=None)
    config.read(folder / "config")
    return config, ring


def make_key_id(config):
    """The keyId of the profile DEFAULT."""
    profile = config["DEFAULT"]
    return f"{profile['tenancy']}/{profile['user']}/{profile['fingerprint']}"


def read_token(config):
    """The keyId of the profile SESSION."""
    path = Path(config["SESSION"]["security_token_file"])
    return f"ST${path.read_text(encoding='utf-8')}"


def test_everything_written_is_private(tmp_path):
    """The folder is 0700 and each file in it 0600."""
    write_folder(tmp_path / "oci")
    assert (tmp_path / "oci").stat().st_mode & 0o777 == 0o700
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "oci").iterdir()}
    assert modes == {0o600}


def test_the_default_profile_has_what_clients_need(tmp_path):
    """DEFAULT names user, fingerprint, tenancy, region and the key file, and its key is trusted."""
    config, ring = write_folder(tmp_path / "oci")
    profile = config["DEFAULT"]
    assert set(profile) == {"user", "fingerprint", "tenancy", "region", "key_file"}
    assert (profile["tenancy"], profile["region"]) == (TENANCY.id, "us-ashburn-1")
    key = load_pem_private_key(Path(profile["key_file"]).read_bytes(), None)
    assert compute_fingerprint(key.public_key()) == profile["fingerprint"]
    assert ring.find_signer(make_key_id(config)).public_key == key.public_key()


def test_the_session_profile_has_its_own_token_and_key(tmp_path):
    """SESSION names a token file and another key, and the token is valid until the session ends."""
    config, ring = write_folder(tmp_path / "oci", session_minutes=10)
    key = load_pem_private_key(Path(config["SESSION"]["key_file"]).read_bytes(), None)
    assert ring.find_signer(read_token(config)).public_key == key.public_key()
    later = make_ring(NOW_SECONDS + 600)
    trust_config(tmp_path / "oci", TENANCY, later)
    assert later.find_signer(read_token(config)) is None


def test_keys_can_be_encrypted(tmp_path):
    """With a pass phrase, both keys are encrypted with it, and the configuration contains it."""
    config, _ = write_folder(tmp_path / "oci", pass_phrase="open sesame 100%")
    for profile in ("DEFAULT", "SESSION"):
        content = Path(config[profile]["key_file"]).read_bytes()
        assert load_pem_private_key(content, config[profile]["pass_phrase"].encode())
        with pytest.raises(TypeError):
            load_pem_private_key(content, None)


def test_a_folder_can_be_trusted_again(tmp_path):
    """A later emulator with the same seed accepts the keys of a folder written earlier."""
    config, _ = write_folder(tmp_path / "oci")
    ring = make_ring()
    trust_config(tmp_path / "oci", TENANCY, ring)
    assert ring.find_signer(make_key_id(config)) is not None
    assert ring.find_signer(read_token(config)) is not None


def test_nothing_is_overwritten(tmp_path):
    """A folder that already holds a configuration is rejected and not changed."""
    write_folder(tmp_path / "oci")
    before = (tmp_path / "oci" / "config").read_bytes()
    with pytest.raises(ConfigFolderError, match="--trust-config"):
        write_folder(tmp_path / "oci")
    assert (tmp_path / "oci" / "config").read_bytes() == before


def test_a_folder_that_cannot_be_created_is_rejected(tmp_path):
    """A path below a file is rejected with a hint."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigFolderError, match="choose a writable folder"):
        write_folder(tmp_path / "file" / "oci")


def test_another_seed_is_not_trusted(tmp_path):
    """A folder written with another seed names another tenancy, and is rejected with that reason."""
    write_folder(tmp_path / "oci")
    with pytest.raises(ConfigFolderError, match="--seed"):
        trust_config(tmp_path / "oci", make_tenancy(2), make_ring())


@pytest.mark.parametrize("content", [None, "", "[DEFAULT]\nuser=x\n", "no config"])
def test_another_folder_is_not_trusted(tmp_path, content):
    """A folder that --write-config did not write is rejected with a hint."""
    if content is not None:
        (tmp_path / "config").write_text(content)
    with pytest.raises(ConfigFolderError, match="--write-config"):
        trust_config(tmp_path, TENANCY, make_ring())
