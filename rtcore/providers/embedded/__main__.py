"""Report how well and how fast the demo agent is understood."""

from __future__ import annotations

import statistics
import sys

import trio

from rtcore.providers.embedded.check import check
from rtcore.providers.embedded.knowledge import ScriptLine, load_demo_agent
from rtcore.providers.embedded.settings import VoiceSettings

VOICES = ("en-us+m3", "en-us", "en-us+m7", "en-us+f2", "en")


async def main() -> None:
    agent = load_demo_agent()
    lines = [ScriptLine(q, entry.id) for entry in agent.entries for q in entry.questions]
    for name in VOICES:
        voice = VoiceSettings(name=name, words_per_minute=150)
        report = await check(agent, lines, voice)
        final_ms = sorted(outcome.final_s * 1000 for outcome in report.outcomes)
        silent = sum(not outcome.text for outcome in report.outcomes)
        sys.stdout.write(
            f"{name:10} right {report.share_right:6.1%} of {len(lines)}, not heard {silent},"
            f" final p50 {statistics.median(final_ms):.1f} ms max {final_ms[-1]:.1f} ms,"
            f" CPU {report.cpu_per_audio_s:.1%} of a core while speaking\n"
        )
        for outcome in report.outcomes:
            if not outcome.is_right and "-v" in sys.argv:
                sys.stdout.write(f"  {outcome.line.say!r} -> {outcome.text!r} {outcome.intent}\n")


trio.run(main)
