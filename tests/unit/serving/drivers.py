"""A router core in virtual time."""

from controller.tiers.audit_config import AuditConfig
from serving.audited import AuditedCore
from serving.model_object import ModelAnswer
from serving.queueing import RouterCore
from serving.requests import Cancel, Reply, Send
from serving.rules import router_tables
from serving.serverless import ServerlessPool, ServerlessTerms
from tests.unit.serving.worlds import LARGE, SMALL, rules, setting

STRICT, RELAXED = 0, 1
LAMBDA_POOL = 2


class Driver:
    """Runs a core in virtual time: batches take exactly their service time, timers fire exactly when due."""

    def __init__(self, of=None, seed=1, confidence=None, lambda_pool=LAMBDA_POOL):
        self.confidence = confidence or {}  # of a variant's answers; None where it is not named
        self.setting = of or setting()
        tables = router_tables(self.setting)
        terms = ServerlessTerms.of(self.setting.catalog, lambda_pool)
        pools = {lambda_pool: ServerlessPool(terms, len(tables.variant_names))}
        self.core = RouterCore(tables, pools, seed)
        self.now_s = 0.0
        self.running = []  # (finish_s, dispatch)
        self.sent = []
        self.replies = []
        self.cancelled = []

    def use(self, serving, **changes):
        self.take(self.core.set_rules(rules(self.setting, serving, **changes), self.now_s))

    def arrive(self, request_class=STRICT, identity=None):
        request, effects = self.core.arrive(request_class, "x", self.now_s, identity)
        self.take(effects)
        return request

    def take(self, effects):
        for effect in effects:
            if isinstance(effect, Send):
                dispatch = effect.dispatch
                self.sent.append((self.now_s, dispatch))
                self.running.append((self.now_s + dispatch.cold_s + dispatch.service_s, dispatch))
            elif isinstance(effect, Cancel):
                self.cancelled.append(effect.dispatch)
                self.running = [(at, d) for at, d in self.running if d is not effect.dispatch]
            else:
                assert isinstance(effect, Reply)
                self.replies.append((self.now_s, effect))

    def until(self, end_s):
        while True:
            finish_s = min((at for at, _ in self.running), default=float("inf"))
            at_s = min(finish_s, self.core.next_event_s())
            if at_s > end_s:
                break
            self.now_s = max(self.now_s, at_s)
            if finish_s <= self.now_s:
                dispatch = min(self.running, key=lambda one: one[0])[1]
                self.running = [(at, d) for at, d in self.running if d is not dispatch]
                self.take(self.core.completed(dispatch, self.answers(dispatch), self.now_s))
            else:
                self.take(self.core.advance(self.now_s))
        self.now_s = end_s

    def answers(self, dispatch):
        """Each output tells the option; how sure the models are is told by variant, or by a function of a request."""
        told = self.confidence.get(dispatch.option // self.core.tables.num_pools)

        def one(request):
            return ModelAnswer(dispatch.option, told(request) if callable(told) else told)

        return [
            ModelAnswer([one(cell) for cell in copy.request.group.cells]) if copy.request.is_pass else one(copy.request)
            for copy in dispatch.copies
        ]

    def lose(self, dispatch):
        self.running = [(at, d) for at, d in self.running if d is not dispatch]
        self.take(self.core.lost(dispatch, self.now_s))

    def outcomes(self):
        return [reply.outcome for _, reply in self.replies]

    def check_conserved(self):
        tally, core = self.core.tally, self.core
        for c in range(2):
            held = core.waiting[c] + core.in_service[c]
            assert tally.arrived[c] == tally.answered[c] + tally.failed[c] + tally.shed[c] + held
        assert all(n >= 0 for n in (*core.waiting, *core.in_service))
        for queue in core.queues:
            assert queue.waiting >= 0
            assert queue.credits_used >= 0


class AuditDriver(Driver):
    """Every answer of the tier is audited; what the models answer is a function of variant and request."""

    def __init__(self, of, says=lambda variant: "same", **audit):
        super().__init__(of, confidence={SMALL: 0.9, LARGE: 0.9})
        self.says = says
        pools = self.core.serverless
        self.core = AuditedCore(self.core.tables, pools, 1, AuditConfig.model_validate({"share": 1.0} | audit))

    def answers(self, dispatch):
        variant = dispatch.option // self.core.tables.num_pools
        return [ModelAnswer(self.says(variant), self.confidence[variant]) for _ in dispatch.copies]

    def reading(self):
        return self.core.stats(self.now_s).audits
