"""URLs of objects."""

import pytest

from ociaudit.client.object_storage import SCHEMES, ObjectUrl, is_object_url, parse_object_url
from ociaudit.errors import UsageError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("oci://exports@axtest/2025/audit.json.gz", ObjectUrl("oci", "exports", "axtest", "2025/audit.json.gz")),
        ("oci://my_bucket.1/a b/größe#1?.json", ObjectUrl("oci", "my_bucket.1", "", "a b/größe#1?.json")),
        ("OCI://exports/{start}.json", ObjectUrl("oci", "exports", "", "{start}.json")),
        ("s3://exports/a@b/c", ObjectUrl("s3", "exports", "", "a@b/c")),
        ("gs://exports/a", ObjectUrl("gs", "exports", "", "a")),
        ("az://exports/a", ObjectUrl("az", "exports", "", "a")),
    ],
)
def test_a_url_is_read_and_written_back(text, url):
    """Scheme, bucket, namespace and name are taken apart, and the URL's text gives the same place again."""
    assert parse_object_url(text) == url
    assert parse_object_url(str(url)) == url
    assert is_object_url(text)


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/x", "scheme 'https'", "oci://bucket@namespace/name"),
        ("ftp://x/y", "scheme 'ftp'", "s3://bucket/name"),
        ("oci://my/bucket@ns/a.json", "'my/bucket' in", "oci://BUCKET@NAMESPACE/NAME"),
        ("oci://my%2Fbucket@ns/a.json", "not the name of a bucket", "letters, digits"),
        ("oci:///a.json", "'' in", "letters, digits"),
        ("oci://bucket", "no object", "oci://BUCKET@NAMESPACE/NAME"),
        ("oci://bucket@ns/", "no object", "oci://BUCKET@NAMESPACE/NAME"),
        ("oci://bucket@ns/folder/", "a slash", "oci://BUCKET@NAMESPACE/NAME"),
        ("oci://bucket@/a", "not an Object Storage namespace", "oci os ns get"),
        ("oci://bucket@a.b/a", "not an Object Storage namespace", "oci os ns get"),
        ("s3://bucket@ns/a", "not an Object Storage namespace", "s3://BUCKET/NAME"),
        ("oci://bucket@ns/a/../b", "'..'", "like that of a file"),
        ("oci://bucket@ns//a", "an empty part", "like that of a file"),
        ("oci://bucket@ns/a\nb", "control character", "like that of a file"),
        ("oci://bucket@ns/" + "a" * 181, "too long", "180 after"),
        ("oci://bucket@ns/" + "a/" * 520 + "b", "too long", "1,024"),
    ],
)
def test_a_url_that_cannot_be_one_is_explained(text, problem, hint):
    """What is wrong with a URL is named, and the hint has the form to write."""
    with pytest.raises(UsageError) as caught:
        parse_object_url(text)
    assert problem in str(caught.value)
    assert hint in caught.value.hint


def test_an_unknown_scheme_names_every_known_one():
    """The hint lists each scheme that oci-audit reads and writes."""
    with pytest.raises(UsageError) as caught:
        parse_object_url("webdav://x/y")
    assert all(f"{scheme}://" in caught.value.hint for scheme in SCHEMES)


@pytest.mark.parametrize("text", ["audit.json", "./a//b", "-", "C:/x", "a:b", "oci:/x"])
def test_a_path_is_no_url(text):
    """Names of files stay names of files."""
    assert not is_object_url(text)


def test_places_have_local_folders_of_their_own():
    """Two folders, buckets or namespaces never share a local folder; two objects of one folder do."""
    texts = ["oci://a@n/x/1", "oci://a@n/y/1", "oci://b@n/x/1", "oci://a@m/x/1", "oci://a/x/1", "s3://a/x/1"]
    assert len({parse_object_url(text).local_name for text in texts}) == len(texts)
    one = parse_object_url("oci://a@n/x/1")
    assert one.local_name == one.beside("2").local_name
    assert str(one.beside("2")) == "oci://a@n/x/2"
    assert str(one.inside("commits/1")) == "oci://a@n/x/1/commits/1"
