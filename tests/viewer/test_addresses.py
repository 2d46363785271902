"""Which Host and Origin headers are the server's own."""

import pytest

from densem.viewer.addresses import is_loopback, is_own, own_names, same_site, url_host

LOCAL = own_names("127.0.0.1")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.4", False), ("node7", False)],
)  # fmt: skip
def test_loopback(host, loopback):
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("header", "here", "on_network"),
    [("localhost", True, True), ("LOCALHOST:1", True, True), ("127.0.0.1:8000", True, True), ("[::1]:8", True, True),
     ("10.1.2.3:8000", False, True), ("[fe80::1]:8", False, True), ("evil.example", False, False),
     ("127.0.0.1.evil", False, False), ("localhost:", False, False), ("user@localhost", False, False),
     ("localhost:8/x", False, False), ("", False, False)],
)  # fmt: skip
def test_host(header, here, on_network):
    assert is_own(header, LOCAL, numbers=False) is here
    assert is_own(header, LOCAL, numbers=True) is on_network


def test_a_server_goes_by_the_name_it_was_given():
    names = own_names("Node7.lab")
    assert is_own("node7.lab:80", names, numbers=True)
    assert not is_own("node8.lab:80", names, numbers=True)


@pytest.mark.parametrize(
    ("origin", "same"),
    [("http://127.0.0.1:9000", True), ("https://localhost:9000", True), ("http://localhost:9001", False),
     ("http://localhost", False), ("http://evil.example:9000", False), ("null", False), ("http://[", False),
     ("http://localhost:99999999", False), ("file://localhost:9000", False)],
)  # fmt: skip
def test_origin(origin, same):
    assert same_site(origin, "127.0.0.1:9000", LOCAL, numbers=False) is same


def test_url_host():
    assert (url_host("::1"), url_host("node7")) == ("[::1]", "node7")
