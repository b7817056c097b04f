"""Who may open the page."""

from epvlm_ros.ui.access import Access
import pytest

TOKEN = 'twenty-four characters 1'


@pytest.mark.parametrize('address', ['127.0.0.1', '127.8.9.1', '::1', 'localhost'])
def test_this_machine_needs_no_token(address):
    assert Access(address).is_loopback


@pytest.mark.parametrize('address', ['0.0.0.0', '::', '192.168.1.7', '8.8.8.8'])
def test_an_address_that_others_reach_wants_a_token(address):
    with pytest.raises(ValueError, match='can be reached by others: give a token.*EPVLM_UI_TOKEN'):
        Access(address)
    assert not Access(address, TOKEN).is_loopback


@pytest.mark.parametrize('address, token, words', [
    ('robot', TOKEN, "address is 'robot': give an IP address"),
    ('', TOKEN, "address is ''"),
    ('127.0.0.1', 'short', 'the token has 5 characters: give at least 16'),
    ('127.0.0.1', 'ü' * 20, 'not of ASCII'), ('127.0.0.1', 'line\nline' * 3, 'not of ASCII')])
def test_what_is_no_address_or_token_is_one_line(address, token, words):
    with pytest.raises(ValueError) as error:
        Access(address, token)
    assert words in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('host, known', [
    ('localhost:8080', True), ('LOCALHOST', True), ('127.0.0.1:1', True), ('[::1]:8080', True),
    ('192.168.1.7:8080', True),  # by a tunnel; an IP address cannot be rebound
    ('robot:8080', True), ('evil.example', False), ('localhost.evil.example', False),
    ('127.0.0.1.evil.example:8080', False), ('', False), (None, False), ('[::1', False)])
def test_only_names_of_this_machine_are_taken(host, known):
    assert Access(host_names=('Robot',)).knows_host(host) is known


def test_the_name_of_the_machine_is_known_where_others_reach_it(monkeypatch):
    monkeypatch.setattr('socket.gethostname', lambda: 'Rover')
    open_to_all = Access('0.0.0.0', TOKEN)
    assert open_to_all.knows_host('rover:80') and open_to_all.knows_host('rover.local:80')
    assert not Access().knows_host('rover:80')


@pytest.mark.parametrize('origin, known', [
    (None, True), ('http://localhost:8080', True), ('https://localhost:8080', True),
    ('http://localhost:8081', False), ('http://127.0.0.1:8080', False), ('null', False),
    ('http://evil.example', False), ('file://localhost:8080', False)])
def test_only_the_page_itself_may_ask(origin, known):
    assert Access().knows_origin(origin, 'localhost:8080') is known


def test_the_cookie_is_not_the_token_and_depends_on_it():
    access = Access('0.0.0.0', TOKEN)
    name, value = access.cookie
    assert TOKEN not in value and access.is_cookie(value) and not access.is_cookie(TOKEN)
    assert access.is_token(TOKEN) and not access.is_token(value) and not access.is_token('\ud800')
    assert Access('0.0.0.0', TOKEN.upper()).cookie != (name, value)
    assert not Access('0.0.0.0', TOKEN.upper()).is_cookie(value)
