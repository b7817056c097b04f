"""Answers meet their pictures, and both are bounded."""

from epvlm_ros.ui.history import AnswerHistory


def answer(stamp, has_picture=True):
    return {'stamp': stamp, 'has_picture': has_picture}


def test_answers_and_pictures_meet_in_any_order():
    history = AnswerHistory()
    assert history.add_picture('2', b'second') is None
    first = history.add_answer(answer('1'))
    second = history.add_answer(answer('2'))
    assert (first['number'], first['picture']) == (1, None)
    assert (second['number'], second['picture']) == (2, '/pictures/2.jpg')
    assert history.add_picture('1', b'first') is first and first['picture'] == '/pictures/1.jpg'
    assert (history.picture(1), history.picture(2)) == (b'first', b'second')
    assert history.picture(3) is None


def test_answers_about_one_frame_get_their_pictures_in_turn():
    history = AnswerHistory()
    for has_picture in (True, False, True):
        history.add_answer(answer('1', has_picture))
    history.add_picture('1', b'first')
    history.add_picture('1', b'third')
    assert [history.picture(number) for number in (1, 2, 3)] == [b'first', None, b'third']
    assert history.add_picture('1', b'of nobody') is None


def test_old_answers_go_with_their_pictures():
    history = AnswerHistory(max_answers=2)
    for number in range(4):
        history.add_answer(answer(str(number)))
        history.add_picture(str(number), b'picture')
    assert [item['number'] for item in history.answers] == [3, 4]
    assert [history.picture(number) for number in (1, 2, 3, 4)] == [
        None, None, b'picture', b'picture']


def test_pictures_are_bounded_in_bytes():
    history = AnswerHistory(max_picture_bytes=10)
    for number in range(3):
        history.add_answer(answer(str(number)))
        history.add_picture(str(number), b'1234')
    assert [item['picture'] for item in history.answers] == [
        None, '/pictures/2.jpg', '/pictures/3.jpg']
    history.add_answer(answer('large'))
    history.add_picture('large', b'x' * 100)  # the latest one is always kept
    assert [history.picture(number) for number in (2, 3, 4)] == [None, None, b'x' * 100]
