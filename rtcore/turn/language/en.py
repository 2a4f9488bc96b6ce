"""English."""

from __future__ import annotations

from rtcore.turn.language._table import Language

__all__ = ["LANGUAGE"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> frozenset[str]:
    return frozenset(phrase.strip() for phrase in text.split(","))


LANGUAGE = Language(
    backchannels=_phrases(
        "mhm, mm, mmm, mmhm, mm hmm, mm-hmm, hmm, hm, uh huh, uh-huh, uhhuh, aha, ah, oh, ooh,"
        "yeah, yep, yup, yes, ok, okay, right, alright, all right, sure, i see, got it, great,"
        "good, fine, exactly, of course, true, wow, really, oh okay, oh ok, oh yeah, oh i see,"
        "cool, nice, perfect, oh right, okay great, okay yeah, huh, gotcha, interesting"
    ),
    stops=_phrases(
        "stop, wait, no, hold on, hang on, excuse me, sorry, pardon, hello, actually, operator,"
        "cancel, repeat, listen, one moment, one second, just a second, just a moment, but"
    ),
    complete=_phrases(
        "yes, yeah, yep, yup, no, nope, nah, ok, okay, sure, correct, that's right, that is right,"
        "that's correct, right, exactly, absolutely, of course, please, yes please, no thanks,"
        "no thank you, thanks, thank you, bye, goodbye, bye bye, hello, hi, hey, alright,"
        "all right, fine, great, perfect, stop, repeat, help, operator, never mind, nothing,"
        "that's all, that's it, that is all, i don't know, not yet, maybe, both, neither, none,"
        "what, pardon, sorry, excuse me, go ahead, sounds good, will do, not really, i guess,"
        "i think so, i hope so, i guess so, me too, i do too"
    ),
    yes_no=_words(
        "yes yeah yep yup no nope nah ok okay sure correct right wrong absolutely definitely"
        " certainly exactly never affirmative negative indeed please fine alright"
    ),
    fillers=_words("uh um er erm uhm umm uhh hmm hm mm eh ehm"),
    dangling=_words(
        # conjunctions
        "and or but because cause so if when while although though unless until since whereas"
        " than whether plus"
        # articles, possessives, quantifiers
        " a an the my your his her its our their every each some any"
        # prepositions that seldom end a sentence
        " of to from with for at by into onto about between through during without under per as"
        # auxiliaries and pronouns that open a clause
        " i i'm i'd i'll i've we we're we'd we'll you're they're he's she's is am are was were"
        " isn't aren't wasn't will would can could should shall may might must do does don't"
        " doesn't didn't have has had haven't hasn't be been gonna wanna let's which who whose"
        " where's what's very really quite also just then not"
    ),
    trailing=_words("like well that this on in there it's that's maybe oh"),
    openers=(
        "my name is",
        "my number is",
        "the number is",
        "my phone number is",
        "my email is",
        "my address is",
        "my account number is",
        "account number",
        "order number",
        "phone number",
        "it is",
        "it's",
        "that's",
        "i want",
        "i need",
        "i want to",
        "i need to",
        "i'd like",
        "i would like",
        "i'd like to",
        "i would like to",
        "i was wondering",
        "can you",
        "could you",
        "can i",
        "could i",
        "let me see",
        "let me think",
        "let me check",
        "hold on",
        "hang on",
        "one moment",
        "one second",
        "just a second",
        "just a moment",
        "give me a second",
        "give me a moment",
        "you know",
        "i mean",
        "i think",
        "how about",
        "what about",
        "do you",
        "are you",
        "is it",
        "is there",
        "at least",
        "such as",
        "kind of",
        "sort of",
        "a couple",
        "a few",
        "a lot",
    ),
    leads=_words(
        "so and but well okay ok hi hello hey yes yeah no um uh er just actually then sorry"
        " right oh please also"
    ),
    courtesies=_words("please thanks then"),
    question_words=_words(
        "what when where who whom whose which why how what's where's who's how's"
    ),
    asks_no_object=_words("when where why how"),
    asked_being=_words("what's where's who's how's"),
    auxiliaries=_words(
        "is are am was were do does did can could will would shall should may might must have has"
        " isn't aren't don't doesn't didn't can't couldn't won't wouldn't shouldn't"
    ),
    being=_words("is are am was were isn't aren't"),
    subjects=_words("i you he she it we they this that these those there anyone anybody someone"),
    speakers=_words("i you we"),
    pronouns=_words("you he she it they this that these those them him me us there here"),
    determiners=_words("a an the my your his her its our their this that these those any some"),
    stranded=_words("for about with to from at in on like"),
    wanting=_words(
        "get find make book change cancel tell give send have buy know take need want put bring"
        " say use see show reschedule order reserve return confirm check schedule arrange offer"
        " recommend update switch move add remove renew explain repeat"
    ),
    receivers=_words("me us him her them you"),
    times_after=_words("at by around until till before after"),
    digits={
        "zero": "0",
        "oh": "0",
        "o": "0",
        "nought": "0",
        "one": "1",
        "two": "2",
        "three": "3",
        "four": "4",
        "five": "5",
        "six": "6",
        "seven": "7",
        "eight": "8",
        "nine": "9",
    },
    repeats={"double": 2, "triple": 3, "treble": 3},
    number_words=_words(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
        " thirty forty fifty sixty seventy eighty ninety hundred thousand million point dash"
    ),
    months=_words(
        "january february march april may june july august september october november december"
        " jan feb mar apr jun jul aug sep sept oct nov dec"
    ),
    ordinals=_words(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
        " thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
        " thirtieth twenty-first twenty-second twenty-third twenty-fourth twenty-fifth"
        " twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirty-first"
    ),
    dates=_words(
        "today tomorrow yesterday tonight monday tuesday wednesday thursday friday saturday sunday"
        " weekend now christmas easter"
    ),
    letters=_words(
        "ay bee cee dee ee eff gee aitch jay kay ell em en pee cue queue ar are ess tee you vee"
        " double-u ex why zee zed dash dot underscore at hyphen"
    ),
)
