"""Ordered lists of providers that fill the same port as one: see ``docs/providers.md``."""

from rtcore.providers.fallback.breaker import Breakers, BreakerSettings, CircuitBreaker
from rtcore.providers.fallback.responder import FallbackResponder
from rtcore.providers.fallback.speech_model import FallbackSpeechModel
from rtcore.providers.fallback.synthesizer import FallbackSynthesizer
from rtcore.providers.fallback.transcriber import FallbackTranscriber

__all__ = [
    "BreakerSettings",
    "Breakers",
    "CircuitBreaker",
    "FallbackResponder",
    "FallbackSpeechModel",
    "FallbackSynthesizer",
    "FallbackTranscriber",
]
