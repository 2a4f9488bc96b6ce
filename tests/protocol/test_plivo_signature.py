"""Plivo's signatures against published vectors, and against all that must not pass."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.protocol.plivo_signature import (
    NonceWindow,
    Tokens,
    sign_v2,
    sign_v3,
    upgrade_form_v3,
    verify_v2,
    verify_v3,
)

TOKEN = "MWVkYTcwOTk4YTBkNGQ1ZmI3ZDRmMTIzNDU2Nzg5"
NONCE = "12429978183216904522"
TOKENS = Tokens(account=(TOKEN,))
EDGE = "https://edge.example.com"
FORM = [
    ("CallUUID", "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36"),
    ("From", "14155550100"),
    ("To", "14155550199"),
    ("Direction", "inbound"),
    ("CallStatus", "ringing"),
    ("Event", "StartApp"),
    ("CallerName", "+14155550100"),
    ("BillRate", "0.0055"),
    ("ParentAuthID", "MAXXXXXXXXXXXXXXXXXX"),
    ("SessionStart", "2026-01-15 11:34:33.238707"),
]
START_QUERY = (
    "To=14155550199&From=14155550100&CallUUID=3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36&Event=StartApp"
)
# made with PyPI plivo 4.63.0 and confirmed by an independent implementation
VECTORS: list[tuple[str, str, list[tuple[str, str]], str]] = [
    ("POST", f"{EDGE}/plivo/answer", FORM, "dW0UGismSCD6NZI26sirWrIhCpvkbhbcuU9Af5GW80M="),
    (
        "POST",
        f"{EDGE}/plivo/answer?tenant=acme&agent=7",
        FORM,
        "tlE/aRQ/nszmREauqDxJEa6cl030K+nJxCptx6UYfiE=",
    ),
    (
        "GET",
        f"{EDGE}/plivo/answer?{START_QUERY}",
        [],
        "3b95Zt94ANpi5LgB7uS1Cy68XWEHoJ0X82gp1nggpi0=",
    ),
    ("POST", f"{EDGE}/plivo/status?b=2&a=1", [], "yZ2sdDGOD02jixXFJaB7IJSaLpbowaTqf/BhJiA9jNU="),
    (
        "GET",
        f"{EDGE}/p?name=Ann%20B+C&empty=&x=a%26b",
        [],
        "9rD4/uwyBbpJZ38gsAtRDWLITVVkZJ3Ts54b+FRgzho=",
    ),
    ("GET", f"{EDGE}/p?k=b&k=a&j=1", [], "Bq/r4gU2jgJaCnS/Y72rPNKQ8Nj4q6hZL5BaHl6m8e4="),
    (
        "POST",
        f"{EDGE}/p",
        [("k", "b"), ("k", "a"), ("j", "1")],
        "JTCpLp+nXHjwJDVZ5EByVBcWc7DHe0ltNWusO9d56Uc=",
    ),
    (
        "POST",
        f"{EDGE}/p",
        [("b", "2"), ("A", "1"), ("a", "3"), ("B", "4")],
        "YRrTxNDo3gS0w9Rphhxq+1+Mcr59l8HMNTAWNgSzvas=",
    ),
    (
        "POST",
        f"{EDGE}/p",
        [("A", ""), ("B", "x y")],
        "Sokj0vYGPjSvWyizf5YS2EkA9oKX7zpfGdwUWFsLfcQ=",
    ),
    ("POST", f"{EDGE}/p", [("n", "é")], "nF4EzTrDAmceS3AOQ48IhtclxOCaXP+jZszHw96+1OA="),
]
UPGRADES = [  # the URL as it stands in our XML, the form signed, the signature
    ("wss://edge.example.com/plivo/media", "http", "eECMW1J24Mg/+TzjKsrERDGY7/b7JlCjsCSx+ZS1xFI="),
    (
        "wss://edge.example.com/plivo/media?session=s-1&agent=7",
        "http",
        "eECMW1J24Mg/+TzjKsrERDGY7/b7JlCjsCSx+ZS1xFI=",
    ),
    (
        "wss://edge.example.com:8443/plivo/media",
        "http",
        "eop+EbXsVqPuWorxsEX7h7EcGFDBpDKT/P2MHs5Awtg=",
    ),
    (
        "wss://edge.example.com/plivo/media?session=s-1&agent=7",
        "http?",
        "0yFfRK038IteAuR01zj4/FYBsvwH559ejwsFAcC6rL0=",
    ),
]

# Plivo's own test data, from its Go SDK
GO_TOKEN, GO_NONCE = "Y2Q2ZDgxZmY5YWRiOTI5YmQ1Njg0MTAxZWIyOTc4", "31627761595286130198"
GO_CALL = "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36"
GO_SIP = "sip:PlivoSignature382029104058171078704104@"
GO_FORM = [
    ("Direction", "outbound"),
    ("From", "19792014278"),
    ("ALegUUID", GO_CALL),
    ("ALegRequestUUID", GO_CALL),
    ("CallUUID", GO_CALL),
    ("RequestUUID", GO_CALL),
    ("CallStatus", "in-progress"),
    ("BillRate", "0.002"),
    ("ParentAuthID", "MANWVLYTK4ZWU1YTY4QA"),
    ("To", f"{GO_SIP}phone-qa.voice.plivodev.com"),
    ("SIP-H-To", f"<{GO_SIP}52.9.11.55;transport=udp>;tag=1"),
    ("SessionStart", "2020-04-08 11:34:33.238707"),
    ("Event", "StartApp"),
]
GO_URL = "https://plivobin.non-prod.plivops.com/api/v1/validate_signature03.xml"
GO_VECTORS: list[tuple[str, str, list[tuple[str, str]], str]] = [
    ("POST", f"{GO_URL}/?a=b&c=d", GO_FORM, "k7Pusd4OxCIjR5IfA9iedDNu/h/gbdYqdzG/MiYtd1c="),
    ("POST", GO_URL, GO_FORM, "iAjE5QqI37mbkYe4w3jTMudqEzbDufdqi7sYwTu64e0="),
    (
        "GET",
        f"{GO_URL}/?a=b&c=d&{urlencode(GO_FORM)}",
        [],
        "UBq8jAtd32wR8EK9VgxbBn4n5rpI/l1H9iN4WfSEHFQ=",
    ),
    ("GET", f"{GO_URL}?{urlencode(GO_FORM)}", [], "i/MQsaQSAd6fiKhOh2qeeeLHZ9faldADSb3/7+Akfbc="),
]


def headers(signature: str, *, nonce: str = NONCE, main: bool = False) -> dict[str, str]:
    name = "X-Plivo-Signature-Ma-V3" if main else "X-Plivo-Signature-V3"
    return {name: signature, "X-Plivo-Signature-V3-Nonce": nonce}


@pytest.mark.parametrize(("method", "url", "form", "signature"), VECTORS)
def test_v3_vectors(method: str, url: str, form: list[tuple[str, str]], signature: str) -> None:
    assert sign_v3(TOKEN, method, url, NONCE, form) == signature
    assert verify_v3(method, url, headers(signature), TOKENS, form=reversed(form))


@pytest.mark.parametrize(("method", "url", "form", "signature"), GO_VECTORS)
def test_v3_vectors_of_plivos_go_sdk(
    method: str, url: str, form: list[tuple[str, str]], signature: str
) -> None:
    tokens = Tokens(account=(GO_TOKEN,))
    assert verify_v3(method, url, headers(signature, nonce=GO_NONCE), tokens, form=form)


@pytest.mark.parametrize(
    ("url", "nonce", "token", "signature"),
    [
        (f"{EDGE}/plivo/answer", NONCE, TOKEN, "gIJFGFP/OCpVz+nScXAmlN1wPF2nBI2mQF4dTfBVSkk="),
        (
            f"{EDGE}/plivo/answer?tenant=acme#ct=2000",
            NONCE,
            TOKEN,
            "gIJFGFP/OCpVz+nScXAmlN1wPF2nBI2mQF4dTfBVSkk=",
        ),
        (
            "https://answer.url",
            "12345",
            "my_auth_token",
            "ehV3IKhLysWBxC1sy8INm0qGoQYdYsHwuoKjsX7FsXc=",
        ),
    ],
)
def test_v2_vectors(url: str, nonce: str, token: str, signature: str) -> None:
    assert sign_v2(token, url, nonce) == signature
    given_headers = {"X-Plivo-Signature-V2": signature, "X-Plivo-Signature-V2-Nonce": nonce}
    assert verify_v2(url, given_headers, Tokens(account=(token,)))
    assert not verify_v2(url + "x", given_headers, Tokens(main=(token,)))
    main_headers = {"x-plivo-signature-ma-v2": signature, "x-plivo-signature-v2-nonce": nonce}
    assert verify_v2(url, main_headers, Tokens(main=(token,)))
    assert not verify_v2("https://[", given_headers, Tokens(account=(token,)))


@pytest.mark.parametrize(("url", "form", "signature"), UPGRADES)
def test_upgrade_vectors(url: str, form: str, signature: str) -> None:
    assert upgrade_form_v3(url, headers(signature), TOKENS) == form


@pytest.mark.parametrize("scheme", ["http", "https", "wss", "ws"])
@pytest.mark.parametrize("query", ["", "?session=s-1"])
def test_the_upgrade_is_accepted_in_every_form_that_is_documented(scheme: str, query: str) -> None:
    signature = sign_v3(TOKEN, "GET", f"{scheme}://edge.example.com/m/abc{query}", NONCE)
    asked = "wss://edge.example.com/m/abc?session=s-1"
    assert upgrade_form_v3(asked, headers(signature), TOKENS) == scheme + query[:1]
    assert upgrade_form_v3(asked.replace("abc", "abd"), headers(signature), TOKENS) is None


def test_the_usual_upgrade_leaves_the_query_unsigned() -> None:
    signature = sign_v3(TOKEN, "GET", "http://edge.example.com/m/abc", NONCE)
    forged = "wss://edge.example.com/m/abc?session=another"
    assert upgrade_form_v3(forged, headers(signature), TOKENS) == "http"


# --- what must not pass -------------------------------------------------------------------

METHOD, URL, _, GOOD = VECTORS[1]


@pytest.mark.parametrize(
    "url",
    [
        URL.replace("acme", "acne"),
        URL.replace("edge", "hedge"),
        URL.replace("https", "http"),
        URL.replace("answer", "answers"),
        URL.replace(".com", ".com:443"),
        URL.partition("?")[0],
        "https://[",
        "",
    ],
)
def test_another_url_does_not_pass(url: str) -> None:
    assert not verify_v3(METHOD, url, headers(GOOD), TOKENS, form=FORM)


def test_another_form_nonce_token_or_method_does_not_pass() -> None:
    for at, (name, value) in enumerate(FORM):
        changed = [*FORM[:at], (name, value + "0"), *FORM[at + 1 :]]
        assert not verify_v3(METHOD, URL, headers(GOOD), TOKENS, form=changed)
        assert not verify_v3(METHOD, URL, headers(GOOD), TOKENS, form=FORM[:at] + FORM[at + 1 :])
    assert not verify_v3(METHOD, URL, headers(GOOD, nonce="1" + NONCE), TOKENS, form=FORM)
    assert not verify_v3(METHOD, URL, headers(GOOD), Tokens(account=("x",)), form=FORM)
    assert not verify_v3("GET", URL, headers(GOOD), TOKENS, form=FORM)


@pytest.mark.parametrize("name", ["X-Plivo-Signature-V3", "X-Plivo-Signature-V3-Nonce"])
def test_a_missing_header_does_not_pass(name: str) -> None:
    incomplete = {key: value for key, value in headers(GOOD).items() if key != name}
    assert not verify_v3(METHOD, URL, incomplete, TOKENS, form=FORM)
    assert not verify_v3(METHOD, URL, incomplete | {name: ""}, TOKENS, form=FORM)
    assert upgrade_form_v3("wss://edge.example.com/m", incomplete, TOKENS) is None


def test_an_empty_token_rejects_everything() -> None:
    empty = base64.b64encode(bytes(32)).decode()
    for tokens in (Tokens(), Tokens(account=("",), main=("",))):
        for signature in (GOOD, empty, ""):
            both = headers(signature) | headers(signature, main=True)
            assert not verify_v3(METHOD, URL, both, tokens, form=FORM)
    with pytest.raises(ValueError, match="empty token"):
        sign_v3("", METHOD, URL, NONCE, FORM)


@pytest.mark.parametrize("listed", ["AAAA,{}", "{}, AAAA", " AAAA , {} ", "é,{}", "\udcff,{}"])
def test_one_good_signature_of_a_list_is_enough(listed: str) -> None:
    assert verify_v3(METHOD, URL, headers(listed.format(GOOD)), TOKENS, form=FORM)
    assert not verify_v3(METHOD, URL, headers(listed.format("BBBB")), TOKENS, form=FORM)


def test_several_tokens_and_the_main_account() -> None:
    assert verify_v3(METHOD, URL, headers(GOOD), Tokens(account=("old", "", TOKEN)), form=FORM)
    main = headers(GOOD, main=True)
    assert verify_v3(METHOD, URL, main, Tokens(main=("old", TOKEN)), form=FORM)
    assert not verify_v3(METHOD, URL, main, TOKENS, form=FORM)
    assert not verify_v3(METHOD, URL, headers(GOOD), Tokens(main=(TOKEN,)), form=FORM)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_no_text_fails_otherwise_than_by_not_passing(url: str, signature: str, nonce: str) -> None:
    for asked in (url, f"{EDGE}/{url}", f"wss://{url}?{url}"):
        assert not verify_v3("POST", asked, headers(signature, nonce=nonce), TOKENS)
        assert upgrade_form_v3(asked, headers(signature, nonce=nonce), TOKENS) is None


# --- replay -------------------------------------------------------------------------------


def test_a_nonce_is_admitted_once_within_the_window() -> None:
    window = NonceWindow(window_s=300.0)
    assert window.admit("a", 0.0)
    assert not window.admit("a", 299.9)  # seen, and not remembered for longer by that
    assert window.admit("b", 299.9)
    assert window.admit("a", 300.0)
    assert not window.admit("b", 599.8)


def test_a_full_window_forgets_the_oldest() -> None:
    window = NonceWindow(max_nonces=3)
    assert all(window.admit(nonce, 1.0) for nonce in "abcd")
    assert len(window) == 3
    assert not window.admit("d", 1.0)
    assert window.admit("a", 1.0)
