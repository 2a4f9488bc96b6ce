"""A node's own counts for Prometheus, read from it when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rtcore.node import Node

__all__ = ["NodeCollector"]


class NodeCollector(Collector):
    """``registry.register(NodeCollector(node))``: costs nothing until somebody looks."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        node, stats, pacer = self._node, self._node.stats, self._node.pacer
        yield GaugeMetricFamily("rtcore_node_calls", "Calls in progress", len(node.calls))
        yield GaugeMetricFamily(
            "rtcore_node_has_room", "Whether one more call would be let in", node.has_room
        )
        yield GaugeMetricFamily(
            "rtcore_node_lag_seconds",
            "How late the media clock was: a maximum that decays",
            pacer.lag_ms / 1000,
        )
        yield CounterMetricFamily("rtcore_node_ticks", "Beats of the media clock", pacer.ticks)
        yield CounterMetricFamily(
            "rtcore_node_late_ticks", "Beats that came too late", pacer.late_ticks
        )
        yield CounterMetricFamily("rtcore_node_streams", "Streams let in", stats.calls)
        refused = CounterMetricFamily("rtcore_node_refused", "Streams refused", labels=["reason"])
        for reason in ("full", "lag", "source", "request"):
            refused.add_metric([reason], getattr(stats, f"refused_{reason}"))
        yield refused
        yield CounterMetricFamily(
            "rtcore_node_protocol_errors", "Streams the far end broke", stats.protocol_errors
        )
        yield CounterMetricFamily(
            "rtcore_node_replaced",
            "Streams another of their call replaced",
            stats.replaced,
        )
        yield CounterMetricFamily(
            "rtcore_node_failed", "Calls that ended by a fault of ours", stats.failed
        )
