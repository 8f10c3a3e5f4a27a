import pytest

from streams.transport.topic_plan import TopicNames, TopicSpec, partition_counts, plan_topics
from streams.transport.topics import (
    BrokerUnreachable,
    CreateRefused,
    PartitionsDiffer,
    TopicMissing,
    admin_client,
    check_copartitioned,
    check_partitions,
    create_topics,
    describe_partitions,
    describe_settings,
    differing_settings,
    ensure_topics,
)
from tests.real.backend import Backend


def test_the_six_topics_carry_the_prefix():
    assert [spec.name for spec in plan_topics(TopicNames("site-a.leadline"))] == [
        "site-a.leadline.predictions",
        "site-a.leadline.labels",
        "site-a.leadline.changes",
        "site-a.leadline.digests",
        "site-a.leadline.alerts",
        "site-a.leadline.rejected",
    ]


def test_predictions_and_labels_are_planned_with_one_partition_count():
    counts = partition_counts(plan_topics(source_partitions=12, digest_partitions=3))
    assert counts["leadline.predictions"] == counts["leadline.labels"] == 12
    assert counts["leadline.changes"] == counts["leadline.digests"] == 3


@pytest.mark.parametrize("broken", [{"partitions": 0}, {"partitions": 1, "replication": 0}])
def test_a_topic_without_partitions_or_replicas_is_refused(broken):
    with pytest.raises(ValueError, match="at least 1"):
        TopicSpec(name="t", **broken)


def test_every_missing_topic_is_named_at_once():
    with pytest.raises(TopicMissing, match=r"missing: leadline\.labels, leadline\.rejected; create them with"):
        check_partitions(
            plan_topics(),
            {"leadline.predictions": 4, "leadline.changes": 4, "leadline.digests": 4, "leadline.alerts": 1},
        )


def test_a_differing_count_names_both_numbers():
    with pytest.raises(PartitionsDiffer, match="a has 3, wanted 4"):
        check_partitions([TopicSpec(name="a", partitions=4), TopicSpec(name="b", partitions=2)], {"a": 3, "b": 2})


def test_joined_topics_with_unequal_counts_are_refused():
    assert check_copartitioned(["p", "l"], {"p": 4, "l": 4, "other": 9}) == 4
    with pytest.raises(PartitionsDiffer, match="p has 4, l has 3"):
        check_copartitioned(["p", "l"], {"p": 4, "l": 3})
    with pytest.raises(TopicMissing, match="missing: l"):
        check_copartitioned(["p", "l"], {"p": 4})


def test_settings_that_differ_are_listed_one_by_one():
    specs = [TopicSpec(name="a", partitions=1, settings={"retention.ms": "1000", "cleanup.policy": "delete"})]
    found = {"a": {"retention.ms": "2000", "cleanup.policy": "delete"}}
    assert differing_settings(specs, found) == ["a: retention.ms is 2000, wanted 1000"]


def test_a_broker_that_does_not_answer_is_a_clear_error():
    with pytest.raises(BrokerUnreachable, match=r"within 0\.2 s"):
        describe_partitions(admin_client("127.0.0.1:1", {"log_level": 0}), timeout_s=0.2)


def test_planned_topics_exist_with_their_counts_on_both_backends(backend: Backend):
    specs = plan_topics(backend.fresh().names, source_partitions=3, digest_partitions=2)
    backend.create_topics(partition_counts(specs))
    admin = admin_client(backend.bootstrap_servers)
    assert partition_counts(specs).items() <= describe_partitions(admin).items()
    report = ensure_topics(admin, specs)
    assert (report.created, set(report.existing)) == ((), set(partition_counts(specs)))


def test_an_existing_topic_with_another_count_stops_everything_before_creation(backend: Backend):
    names = backend.fresh().names
    backend.create_topics({names.labels: 2})
    admin = admin_client(backend.bootstrap_servers)
    with pytest.raises(PartitionsDiffer, match="labels has 2, wanted 4"):
        ensure_topics(admin, plan_topics(names))
    assert [name for name in describe_partitions(admin) if name.startswith(names.prefix)] == [names.labels]


@pytest.mark.kafka
def test_missing_topics_are_created_with_their_settings_and_a_second_run_changes_nothing(kafka: Backend):
    specs = plan_topics(kafka.fresh().names, source_partitions=5, source_retention_ms=3_600_000)
    admin = admin_client(kafka.bootstrap_servers)
    assert ensure_topics(admin, specs[:2]).created == tuple(spec.name for spec in specs[:2])
    assert ensure_topics(admin, specs).created == tuple(spec.name for spec in specs[2:])
    assert ensure_topics(admin, specs).created == ()
    settings = describe_settings(admin, [spec.name for spec in specs])
    assert differing_settings(specs, settings) == []
    assert settings[specs[0].name]["retention.ms"] == "3600000"


@pytest.mark.kafka
def test_a_refused_topic_carries_the_brokers_reason(kafka: Backend):
    names = kafka.fresh().names
    with pytest.raises(CreateRefused, match=rf"{names.alerts}: .*[Rr]eplication factor"):
        ensure_topics(admin_client(kafka.bootstrap_servers), plan_topics(names, replication=3)[4:5])


@pytest.mark.kafka
def test_a_topic_that_another_process_created_meanwhile_is_not_an_error(kafka: Backend):
    specs = plan_topics(kafka.fresh().names)[:1]
    admin = admin_client(kafka.bootstrap_servers)
    assert create_topics(admin, specs) == [specs[0].name]
    assert create_topics(admin, specs) == []


def test_the_embedded_broker_says_that_it_creates_no_topics(embedded: Backend):
    specs = plan_topics(embedded.fresh().names)[:1]
    with pytest.raises(CreateRefused, match="given its topics at start"):
        ensure_topics(admin_client(embedded.bootstrap_servers), specs, timeout_s=1.0)
