"""Aggregations: as states of usage windows that merge, and evaluated from the events of a period. All exact."""

from services.ingest.domain.aggregations.buckets import BucketGrid, bucket_values, over_values
from services.ingest.domain.aggregations.columns import NO_EVENTS, EventColumns, Operation, joined
from services.ingest.domain.aggregations.evaluation import evaluate, evaluate_states, finish, whole_state
from services.ingest.domain.aggregations.period import AggregationPeriod
from services.ingest.domain.aggregations.state_columns import StateColumns, state_columns
from services.ingest.domain.aggregations.states import NO_STATE, WindowState, merge, merge_all, state_value

__all__ = [
    "NO_EVENTS",
    "NO_STATE",
    "AggregationPeriod",
    "BucketGrid",
    "EventColumns",
    "Operation",
    "StateColumns",
    "WindowState",
    "bucket_values",
    "evaluate",
    "evaluate_states",
    "finish",
    "joined",
    "merge",
    "merge_all",
    "over_values",
    "state_columns",
    "state_value",
    "whole_state",
]
