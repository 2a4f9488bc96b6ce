"""A telephone network for tests: carrier, line, caller and providers that follow a script."""

from rtcore.testing.caller import (
    Action,
    Stretch,
    Utterance,
    dtmf,
    hang_up,
    interrupt_after,
    say,
    wait,
    wait_for_agent_quiet,
)
from rtcore.testing.carrier import CALL_LIMIT_S, FakeCarrier
from rtcore.testing.clock import LineClock
from rtcore.testing.faults import LineFaults
from rtcore.testing.line import ALAW_8K, L16_8K, L16_16K, MULAW_8K, LineFormat
from rtcore.testing.plivo import FakePlivo, Phone
from rtcore.testing.providers import (
    ProviderFault,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
)
from rtcore.testing.report import BargeIn, CarrierEvent, CarrierReport, Counts, Gap, Turn
from rtcore.testing.simulation import Resources, simulate
from rtcore.testing.sockets import MemorySocket, memory_sockets
from rtcore.testing.speech_model import ScriptedSpeechModel
from rtcore.testing.summary import Summary, summarise
from rtcore.testing.tape import Tape
from rtcore.testing.voice import Spoken, heard_samples, speak
from rtcore.testing.wav import WavTape, WavWriter, read_wav

__all__ = [
    "ALAW_8K",
    "CALL_LIMIT_S",
    "L16_8K",
    "L16_16K",
    "MULAW_8K",
    "Action",
    "BargeIn",
    "CarrierEvent",
    "CarrierReport",
    "Counts",
    "FakeCarrier",
    "FakePlivo",
    "Gap",
    "LineClock",
    "LineFaults",
    "LineFormat",
    "MemorySocket",
    "Phone",
    "ProviderFault",
    "Resources",
    "ScriptedResponder",
    "ScriptedSpeechModel",
    "ScriptedSynthesizer",
    "ScriptedTranscriber",
    "Spoken",
    "Stretch",
    "Summary",
    "Tape",
    "Turn",
    "Utterance",
    "WavTape",
    "WavWriter",
    "dtmf",
    "hang_up",
    "heard_samples",
    "interrupt_after",
    "memory_sockets",
    "read_wav",
    "say",
    "simulate",
    "speak",
    "summarise",
    "wait",
    "wait_for_agent_quiet",
]
