"""Which URLs a webhook may have, and which machines it may reach."""

import pytest

from shared.errors import RequestInvalid
from shared.webhook_address import check_webhook_url, is_public


@pytest.mark.parametrize("url", ["https://clinic.example/hook?x=1", "https://clinic.example:8443", "https://1.1.1.1/"])
def test_https_is_accepted(url):
    check_webhook_url(url, local_allowed=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://clinic.example/",
        "http://localhost/",
        "ftp://clinic.example/",
        "https://",
        "https://user:secret@clinic.example/",
        "https://clinic.example/#part",
        "https://clinic.example/a b",
        "https://clinic.example:99999/",
        "https://[::1/",
        "https://clínica.example/",
        "clinic.example",
    ],
)
def test_anything_but_a_plain_https_url_is_refused(url):
    with pytest.raises(RequestInvalid, match="webhook_url_refused"):
        check_webhook_url(url, local_allowed=False)


def test_http_to_this_machine_is_accepted_where_that_is_allowed():
    check_webhook_url("http://localhost:8000/hook", local_allowed=True)
    with pytest.raises(RequestInvalid):
        check_webhook_url("http://clinic.example/", local_allowed=True)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_internet_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "64:ff9b:1::a00:1",
        "fec0::1",
    ],
)
def test_local_addresses_are_not_public_whatever_they_are_wrapped_in(address):
    assert not is_public(address)
