"""What the coordinator learns from attempts that fail: whom it leaves out, what it asks, how long it waits, and when it ends."""

from dagtrain.engines.ranks.actions import Abandon, Begin, Commit, GiveUp, Held, Inquire, Missing, Probe, SegmentPolicy, Submit
from dagtrain.engines.ranks.coordinator import Coordinator
from dagtrain.engines.ranks.membership import Membership

POLICY = SegmentPolicy()
THREE = ("a", "b", "c")


class Cluster:
    """A coordinator, its clock, and what the scheduler would tell it."""

    def __init__(self, workers=THREE, **policy):
        self.coordinator = Coordinator(0.0, SegmentPolicy(**policy))
        self.coordinator.train(Held(15), 115, 8)
        self.present, self.paused, self.busy = set(workers), set(), {}
        self.waiting, self.unfinished, self.hindered = (), 0, {}
        self.said = []

    def act(self, seconds=0.0):
        """Let time go by, and answer what is asked; the instructions."""
        self.coordinator.tick(self.coordinator.now + seconds)
        self.coordinator.workers(self.present, (), None, self.paused, self.busy)
        actions, said = [], self.coordinator.act()
        while any(isinstance(action, Commit) for action in said):  # the next segment may be done too
            actions, said = actions + said, self.coordinator.act()
        actions += said
        self.said += actions
        for action in actions:
            if isinstance(action, Inquire):
                self.coordinator.inquired(action.generation, self.waiting, self.unfinished, self.hindered)
        return actions

    def until(self, kind, limit=1000.0):
        """Let it go on until it gives an instruction of this kind; that, and when."""
        began = self.coordinator.now
        while self.coordinator.now - began < limit:
            for action in self.act(0.25):
                if isinstance(action, kind):
                    return action, self.coordinator.now - began
        raise AssertionError(f"no {kind.__name__} within {limit} s: {self.said}")

    def begin(self, *ranks, segments=None):
        """These ranks begin all segments, or some, of the group that is there."""
        group = self.coordinator.group
        for submitted in [s for s in self.said if isinstance(s, Submit) and s.generation == group.generation]:
            if segments is None or submitted.segment in segments:
                for rank in ranks:
                    self.coordinator.begun(group.generation, submitted.segment, rank)

    def finish(self, segment):
        """All ranks of the group do a segment."""
        for rank in range(len(self.coordinator.group.workers)):
            self.coordinator.reported(self.coordinator.group.generation, segment, rank)

    @property
    def group(self):
        return self.coordinator.group.workers


def test_a_paused_worker_has_no_part_until_it_resumes():
    cluster = Cluster()
    cluster.paused = {"b"}
    cluster.act()
    assert cluster.group == ("a", "c")
    cluster.paused = set()
    cluster.act()
    for segment in range(3):
        cluster.finish(segment)
    cluster.act()
    assert cluster.group == THREE


def test_a_worker_that_pauses_in_the_midst_is_left_out_within_seconds():
    cluster = Cluster()
    cluster.act()
    cluster.begin(0, 1, 2)
    cluster.finish(0)
    cluster.paused = {"b"}
    cluster.act()
    cluster.begin(0, 2, segments=[3])
    cluster.finish(1)
    cluster.finish(2)
    abandoned, seconds = cluster.until(Abandon)
    assert seconds < 2 * POLICY.begin
    assert "b (it is paused" in abandoned.why or "b does not begin its part: it is paused" in abandoned.why
    assert cluster.group == ("a", "c")


def test_a_busy_worker_is_left_out_and_used_again_when_it_is_free():
    cluster = Cluster()
    cluster.act()
    cluster.begin(0, 2)
    cluster.busy = {"b": "long-task"}
    abandoned, seconds = cluster.until(Abandon)
    assert POLICY.begin <= seconds < 2 * POLICY.begin
    assert abandoned.why == "worker b does not begin its part: it is busy with long-task"
    assert cluster.group == ("a", "c")
    cluster.begin(0, 1)
    cluster.act(30)
    assert cluster.coordinator.group.draining == "", "it is busy still"
    cluster.busy = {}
    cluster.act()
    assert cluster.coordinator.group.draining == "workers joined: b"


def test_a_newcomer_that_goes_before_its_group_begins_is_reported():
    cluster = Cluster(("a", "b"))
    cluster.act()
    cluster.present.add("c")
    cluster.act()
    assert cluster.coordinator.group.draining == "workers joined: c"
    cluster.present.discard("c")
    for segment in range(3):
        cluster.finish(segment)
    kinds = [action for action in cluster.act() if isinstance(action, Abandon | Missing | Begin)]
    assert kinds == [Abandon(0, "workers joined: c", False, ("c",)), Missing(("c",)), Begin(1, ("a", "b"))]


def test_a_worker_that_is_lost_while_the_next_group_is_delayed_is_reported_once():
    cluster = Cluster()
    cluster.act()
    for _ in range(2):
        cluster.coordinator.failed(cluster.coordinator.group.generation, "no reason")
        cluster.act()
    assert cluster.coordinator.group is None, "after two failures without a reason the next attempt is delayed"
    cluster.present.discard("b")
    missing, _ = cluster.until(Missing)
    assert missing.workers == ("b",)
    assert cluster.group == ("a", "c")
    cluster.coordinator.failed(cluster.coordinator.group.generation, "no reason")
    cluster.until(Begin)
    assert sum(isinstance(action, Missing) for action in cluster.said) == 1


def test_a_worker_that_is_left_out_again_and_again_is_so_for_longer_each_time():
    membership, now, delays = Membership(), 0.0, []
    for _ in range(10):
        membership.seen(now, THREE)
        assert membership.leave_out({"b": "it is busy with long-task"}, now)
        began = now
        while "b" not in membership.fit():
            now += 0.25
            membership.seen(now, THREE)
        delays.append(now - began)
    assert delays[:3] == [1, 2, 4]
    assert max(delays) == delays[-1] == 60
    membership.proved(THREE)
    assert membership.leave_out({"b": "it is busy with long-task"}, now)
    membership.seen(now + 1, THREE)
    assert "b" in membership.fit(), "it has been of use since"


def test_nobody_is_left_out_for_the_last_time():
    membership = Membership()
    membership.seen(0, ["a", "b"])
    assert membership.leave_out({"a": "it fails"}, 0)
    assert not membership.leave_out({"b": "it fails, too"}, 0)
    assert membership.fit() == {"b"}


def test_where_nobody_can_begin_it_waits_and_then_names_each():
    cluster = Cluster()
    cluster.act()
    cluster.paused, cluster.busy = {"a"}, {"b": "one", "c": "two"}
    end, seconds = cluster.until(GiveUp)
    assert POLICY.workers <= seconds < POLICY.workers + 2 * POLICY.begin
    assert "no worker can take a task, and none could for 60 s, at step 15" in end.why
    assert "a: it is paused" in end.why
    assert "b: it is busy with one" in end.why
    assert "c: it is busy with two" in end.why


def test_a_worker_on_which_what_ranks_wait_for_cannot_begin_is_left_out():
    cluster = Cluster()
    cluster.act()
    cluster.waiting, cluster.unfinished, cluster.hindered = (0, 1, 2), 5, {"a": "it is busy with long-task"}
    abandoned, seconds = cluster.until(Abandon)
    assert seconds < 2 * POLICY.begin
    assert "worker a does not begin its part" in abandoned.why
    assert cluster.group == ("b", "c")


def test_data_that_is_computed_for_long_is_waited_for_as_long_as_it_gets_on():
    cluster = Cluster()
    cluster.act()
    cluster.waiting = (0, 1, 2)
    for unfinished in range(20, 0, -1):
        cluster.unfinished = unfinished
        cluster.act(POLICY.news / 2)
    assert not any(isinstance(action, Abandon) for action in cluster.said)
    cluster.until(Abandon, limit=POLICY.news + 10)


def test_ranks_that_do_not_meet_have_all_pairs_probed_and_go_on_without_one():
    cluster = Cluster()
    cluster.act()
    cluster.begin(0, 1, 2)
    probe, seconds = cluster.until(Probe)
    assert seconds < 2 * POLICY.begin
    assert probe.pairs == (("a", "b"), ("a", "c"), ("b", "c"))
    cluster.coordinator.probed([("a", "b"), ("b", "c")], [("a", "c")])
    abandoned, _ = cluster.until(Abandon)
    assert "workers a and c do not reach each other" in abandoned.why
    assert cluster.group == ("a", "b")
    cluster.begin(0, 1)
    cluster.coordinator.started(1)
    probe, seconds = cluster.until(Probe)
    assert probe.pairs == (("a", "c"),)
    assert seconds <= POLICY.cut
    cluster.coordinator.probed([("a", "c")], [])
    assert cluster.coordinator.membership.choose(8) == THREE


def test_a_short_cut_parts_a_pair_for_seconds_and_a_long_one_is_probed_ever_less_often():
    membership, now, probes = Membership(cut=30.0), 0.0, []
    membership.seen(now, THREE)

    def until_probe(now):
        while not membership.due(now):
            now += 0.25
        return now

    membership.part(("a", "b"), now)
    for _ in range(6):
        probes.append(until_probe(now) - now)
        now += probes[-1]
        membership.part(("a", "b"), now)  # the probe's answer
    assert probes == [2, 4, 8, 16, 30, 30]
    membership.join(("a", "b"))
    membership.part(("a", "b"), now)
    assert until_probe(now) - now == 30, "probes reach, and segments fail"
    membership.proved(THREE)
    membership.part(("a", "b"), now)
    assert until_probe(now) - now == 2


def test_the_largest_set_that_reach_each_other_is_chosen():
    cluster = Cluster(("a", "b", "c", "d", "e"))
    cluster.act()
    for pair in [(x, y) for x in "ab" for y in "cde"]:
        cluster.coordinator.membership.part(pair, 0.0)
    assert cluster.coordinator.membership.choose(8) == ("c", "d", "e")


def test_a_probe_says_nothing_of_ranks_that_have_met():
    cluster = Cluster()
    cluster.act()
    cluster.begin(0, 1, 2)
    cluster.until(Probe)
    cluster.coordinator.started(0)
    cluster.coordinator.probed([], [("a", "b")])
    cluster.act()
    assert cluster.group == THREE


def test_a_worker_that_fails_twice_is_left_out():
    cluster = Cluster()
    cluster.act()
    for _ in range(2):
        cluster.coordinator.failed(cluster.coordinator.group.generation, "no memory", fault=["b"])
        cluster.until(Begin, 1)
    assert cluster.group == ("a", "c")
    assert cluster.coordinator.membership.unfit() == {"b": "no memory"}


def test_two_between_which_links_break_twice_are_kept_apart():
    cluster = Cluster()
    cluster.act()
    for _ in range(2):
        cluster.coordinator.failed(cluster.coordinator.group.generation, "reset", fault=["a", "b"])
        cluster.until(Begin, 1)
    assert cluster.group == ("a", "c")


def test_a_silent_peer_is_left_out_at_once():
    cluster = Cluster()
    cluster.act()
    cluster.coordinator.failed(0, "rank 1 sent nothing for 600 s", silent=["b"])
    cluster.act()
    assert cluster.group == ("a", "c")


def test_between_attempts_that_teach_nothing_it_waits_longer_each_time():
    cluster = Cluster()
    cluster.act()
    pauses = []
    for number in range(POLICY.failures - 1):
        cluster.coordinator.failed(number, f"reason {number}")
        began = cluster.coordinator.now
        while not any(isinstance(action, Begin) for action in cluster.act(0.01)):
            pass
        pauses.append(cluster.coordinator.now - began)
    cluster.coordinator.failed(POLICY.failures - 1, "reason 7")
    end, _ = cluster.until(GiveUp, 1)
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.05
    assert pauses[-1] > 1
    assert "8 attempts failed in a row at step 15; the last time: reason 7" in end.why


def test_what_would_come_again_ends_at_once():
    cluster = Cluster()
    cluster.act()
    cluster.coordinator.failed(0, "the ranks do not run the same plan", final=True)
    end, _ = cluster.until(GiveUp, 1)
    assert end.why == "at step 15: the ranks do not run the same plan. Another attempt would fail as well"


def test_data_that_fails_is_computed_once_more():
    cluster = Cluster()
    cluster.act()
    cluster.coordinator.failed(0, "the task load failed", fault="the data")
    cluster.until(Begin, 1)
    cluster.coordinator.failed(1, "the task load failed", fault="the data")
    assert "the task load failed" in cluster.until(GiveUp, 1)[0].why


def test_a_group_that_is_silent_twice_is_no_longer_waited_for():
    cluster = Cluster(("a",))
    cluster.act()
    cluster.begin(0)
    cluster.coordinator.started(0)
    end, seconds = cluster.until(GiveUp, 3 * POLICY.news)
    assert "not heard of: a" in end.why
    assert seconds < 2 * POLICY.news
