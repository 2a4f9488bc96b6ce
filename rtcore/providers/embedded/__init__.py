"""Ears, mind and voice with no key and no network: the extra ``rtcore[embedded]``.

Recogniser and voice live in worker processes, kept by their ``run``, which the node starts in
its nursery; see ``docs/embedded.md``.
"""

from rtcore.providers.embedded.brain import EmbeddedBrain
from rtcore.providers.embedded.knowledge import AgentData, load_agent, load_demo_agent
from rtcore.providers.embedded.recogniser import EmbeddedRecogniser
from rtcore.providers.embedded.settings import RecogniserSettings, VoiceSettings
from rtcore.providers.embedded.voice import CALLER_VOICE, EmbeddedVoice, say

__all__ = [
    "CALLER_VOICE",
    "AgentData",
    "EmbeddedBrain",
    "EmbeddedRecogniser",
    "EmbeddedVoice",
    "RecogniserSettings",
    "VoiceSettings",
    "load_agent",
    "load_demo_agent",
    "say",
]
