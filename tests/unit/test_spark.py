"""The Spark data source without Spark: options, the shares of a cluster, batches, and the offsets of a stream."""

import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit import spark
from ociaudit.errors import CorruptRun, UsageError
from ociaudit.planning.shard import MINUTES_PER_DAY, Target

SECRET = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"


def parse(*, is_stream=False, **options):
    """Return parsed options, with their names in lower case, as Spark gives them."""
    lower = {name.lower(): value for name, value in {"start": "7d", **options}.items()}
    return spark._parse_options(lower, is_stream=is_stream)


def find_slots(**settings):
    """Return how many tasks run at the same time by a configuration, whose names have _ for the point."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    return spark._find_slots(lambda name, default="": given.get(name, default))


def test_options_reach_the_form_in_which_all_options_travel():
    """Options in any case become export options, connection options and variables."""
    found = parse(
        end="now",
        regions="fra, iad",
        compartments="root/a,root/b",
        maxWindowDays="3",
        requestsPerSecond="2.5",
        numPartitions="8",
        ledger="file:///mnt/ledger",
        profile="X",
        configFile="/c",
        auth="api_key",
        settle="20m",
    )
    assert (found.export.regions, found.export.compartments) == (("fra", "iad"), ("root/a", "root/b"))
    assert (found.export.max_window_days, found.export.settle) == (3, "20m")
    assert (found.partitions, found.requests_per_second, str(found.ledger)) == (8, 2.5, "/mnt/ledger")
    assert (found.connection.profile, found.connection.config_file, found.connection.auth) == ("X", "/c", "api_key")


def test_a_secret_is_in_no_repr():
    """The settings travel with the key by pickle, and no repr of them has a line of it."""
    found = parse(keyContent=SECRET, passPhrase="open sesame")
    reader = spark.OciAuditReader(found, spark._Cluster())
    for shown in (repr(found), repr(reader), str(reader.__dict__)):
        assert "c2VjcmV0" not in shown
        assert "sesame" not in shown
    assert pickle.loads(pickle.dumps(reader))._settings.variables["OCI_CLI_KEY_CONTENT"] == SECRET


@pytest.mark.parametrize("name", spark.OPTIONS)
def test_a_typing_error_gets_the_nearest_name(name):
    """An option with a letter too many is refused with the name that was meant."""
    with pytest.raises(UsageError) as caught:
        parse(**{name[:2] + "z" + name[2:]: "x"})
    assert name in caught.value.hint


@pytest.mark.parametrize("name", ["keyContent", "passPhrase"])
def test_no_error_of_the_options_shows_a_secret(name):
    """A wrong option beside a secret gives an error without it."""
    with pytest.raises(UsageError) as caught:
        parse(**{name: SECRET, "numPartitions": "x"})
    assert "c2VjcmV0" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("settings", "slots"),
    [
        ({"spark_master": "local"}, 1),
        ({"spark_master": "local[3]"}, 3),
        ({"spark_master": "local[8,2]", "spark_task_cpus": "2"}, 4),
        ({"spark_master": "local[*]"}, None),
        ({"spark_master": "local-cluster[2, 3, 1024]"}, 6),
        ({"spark_master": "yarn", "spark_executor_instances": "5", "spark_executor_cores": "4"}, 20),
        (
            {
                "spark_master": "yarn",
                "spark_executor_instances": "5",
                "spark_executor_cores": "4",
                "spark_dynamicAllocation_enabled": "true",
            },
            None,
        ),
        (
            {
                "spark_master": "k8s://x",
                "spark_dynamicAllocation_enabled": "true",
                "spark_dynamicAllocation_maxExecutors": "7",
                "spark_executor_cores": "2",
            },
            14,
        ),
        ({}, None),
    ],
)
def test_the_tasks_that_run_at_the_same_time_are_read_from_the_configuration(settings, slots):
    """A configuration that bounds the cluster gives the number of its slots, any other none."""
    assert find_slots(**settings) == slots


def test_no_task_gets_less_than_one_request_per_second():
    """A low rate has fewer partitions than was asked for, because more would only wait."""
    assert spark._choose_count(parse(requestsPerSecond="5", numPartitions="40"), spark._Cluster(8)) == 5
    assert spark._choose_count(parse(requestsPerSecond="0.5"), spark._Cluster(8)) == 1
    assert spark._choose_count(parse(), spark._Cluster(4)) == 8
    assert spark._choose_count(parse(), spark._Cluster(4_000)) == spark.MAX_PARTITIONS


def test_a_batch_has_the_types_of_the_schema():
    """Times keep microseconds, a time that cannot be read is null, and lone surrogates do not matter."""
    raws = [
        b'{"eventTime":"2025-01-01T00:00:00.123456789Z","eventId":"a"}',
        b'{"eventTime":"0001-01-01T00:00:00Z","data":{"eventName":"\\ud800"}}',
        b'{"eventTime":"never","data":{"response":{"status":"404"}}}',
    ]
    (batch,) = spark._make_batches(((raw, 0) for raw in raws), [Target("us-ashburn-1", "ocid1.x")])
    rows = batch.to_pylist()
    assert [row["event"].encode() for row in rows] == raws
    assert rows[0]["event_time"] == datetime(2025, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert [row["event_time"] for row in rows[1:]] == [datetime(1, 1, 1, tzinfo=UTC), None]
    assert rows[2]["status"] == 404
    assert batch.schema.names == spark.SCHEMA.fieldNames()


@given(st.lists(st.integers(1, 3 * 1024 * 1024), max_size=12))
def test_batches_are_bounded(sizes):
    """No batch exceeds its bound by more than one event, and nothing is lost."""
    raws = [b'{"a":"' + b"x" * size + b'"}' for size in sizes]
    batches = list(spark._make_batches(((raw, 0) for raw in raws), [Target("r", "c")]))
    assert [row for batch in batches for row in batch.column("event").to_pylist()] == [raw.decode() for raw in raws]
    for batch in batches:
        assert sum(map(len, batch.column("event").to_pylist()[:-1])) < 4 * 1024 * 1024


@given(
    st.lists(st.integers(1, 3 * MINUTES_PER_DAY), min_size=2, max_size=40),
    st.lists(st.integers(1, 8 * MINUTES_PER_DAY), min_size=1, max_size=3, unique=True).map(sorted),
)
def test_every_minute_is_requested_again_at_the_age_of_each_ring(steps, rings):
    """However long the batches are, every minute is requested at the age of each ring, or a period later."""
    text = ",".join(f"{ring}m" for ring in rings)
    reader = spark.OciAuditStreamReader(parse(is_stream=True, rescan=text), spark._Cluster())
    origin = first = 30_000_000
    asked: list[tuple[int, int]] = []
    for step in steps:
        last = first + step
        asked.append((first - reader._find_rescan(first, last), last))
        first = last
    for ring in rings:
        period, longest = max(1, ring // 4), max(steps)
        for minute in range(origin, first - ring - period - longest, max(1, (first - origin) // 50)):
            assert any(begin <= minute and end - minute >= ring for begin, end in asked)


def test_an_offset_of_something_else_is_refused():
    """A checkpoint of another source gives a sentence and no traceback of its JSON."""
    with pytest.raises(CorruptRun, match="not an offset of oci_audit"):
        spark._read_offset({"partition": 3})
    assert spark._read_offset(spark._make_offset(30_000_000)) == 30_000_000


def test_a_batch_without_minutes_has_no_partitions():
    """Where the clock was set back, the batch is empty and nothing is requested."""
    reader = spark.OciAuditStreamReader(parse(is_stream=True), spark._Cluster())
    assert reader.partitions(spark._make_offset(30_000_000), spark._make_offset(29_999_999)) == []
