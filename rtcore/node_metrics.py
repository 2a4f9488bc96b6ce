"""A node's own counts for Prometheus, read from it when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rtcore.audio import RATE_HZ
from rtcore.node import Node
from rtcore.recording import Recordings
from rtcore.usage import Usage

__all__ = ["NodeCollector", "RecordingCollector"]


USED = {
    "requests": "Sessions of recognisers, answers of models, replies of voices",
    "answered": "Requests that brought words or sound",
    "failures": "Requests that failed",
    "failovers": "Requests that came because another failed or was slow",
    "audio_s": "Audio of callers sent",
    "input_tokens": "Tokens read",
    "cached_tokens": "Tokens read that the service had cached",
    "output_tokens": "Tokens written",
    "audio_tokens": "Tokens read and written that were sound",
    "estimated_tokens": "Tokens read and written that nobody told of",
    "characters": "Text given to voices",
    "speech_s": "Sound got of voices",
    "wasted_tokens": "Tokens of answers that were thrown away",
    "wasted_characters": "Text of answers that were thrown away",
    "wasted_speech_s": "Sound of answers that were thrown away",
}


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
        yield from _used(node.used)


class RecordingCollector(Collector):
    """The same of what is recorded."""

    def __init__(self, recordings: Recordings) -> None:
        self._stats = recordings.stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        yield CounterMetricFamily("rtcore_recordings", "Streams recorded", stats.recordings)
        yield CounterMetricFamily(
            "rtcore_recordings_written_bytes", "Sound on the disk", stats.written_bytes
        )
        lost = CounterMetricFamily(
            "rtcore_recordings_lost_seconds",
            "Silence in place of what the disk was too slow for, or refused",
            labels=["reason"],
        )
        lost.add_metric(["dropped"], stats.dropped_samples / RATE_HZ)
        lost.add_metric(["refused"], stats.lost_samples / RATE_HZ)
        yield lost


def _used(usage: Usage) -> Iterator[Metric]:
    """What calls that are over used of each provider; ``member`` is its place in its list."""
    labels = ("kind", "provider", "member")
    for field, what in USED.items():
        name = f"{field}econds" if field.endswith("_s") else field
        family = CounterMetricFamily(f"rtcore_provider_{name}", what, labels=labels)
        for used in usage.report():
            place = [used.kind, used.provider, str(used.member)]
            family.add_metric(place, getattr(used, field))
        yield family
