"""A robot without ROS, for tests of the server: it repeats questions, word by word."""

import asyncio

from epvlm_ros.ui.robot import RobotError


def make_answer(question='what?', text='a ring', status='OK', stamp='1.000000000', **fields):
    """Return an answer as `epvlm_ros.ui.answers.to_json` makes them."""
    return {
        'question': question, 'text': text, 'status': status, 'message': '', 'stamp': stamp,
        'has_picture': status == 'OK', 'watch_id': '', 'tokens': 20, 'tokens_kept': 10,
        'flops_saved': 0.5, **fields}


class FakeRobot:
    """Keeps what it was asked; a question 'wait' is answered when it is cancelled."""

    def __init__(self):
        self.pictures = []
        self.open_questions = 0
        self.requests = []

    def start(self, listener):
        self.listener = listener

    def show_pictures(self, live, answered):
        self.pictures.append((live, answered))

    async def ask(self, request, on_text, cancelled):
        question = request.question.question
        self.open_questions += 1
        try:
            if question == 'fail':
                raise RobotError('vlm_node is not there')
            if question == 'break':
                raise KeyError('bug')
            if question == 'wait':
                on_text('so far')
                await cancelled.wait()
                return make_answer(question, 'so far', 'CANCELLED')
            text = ''
            for word in question.split():
                text = f'{text} {word}'.strip()
                on_text(text)
                await asyncio.sleep(0.01)
            return make_answer(question, text)
        finally:
            self.open_questions -= 1

    async def watch(self, request):
        self.requests.append(request)
        return 'watch-1'

    async def unwatch(self, watch_id):
        raise RobotError(f'there is no watch {watch_id!r}')

    async def set_parameter(self, request):
        self.requests.append(request)

    async def refresh(self):
        self.listener.on_latest('watches', {'fault': '', 'watches': []})
