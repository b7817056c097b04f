"""The command ``epvlm eval``; libraries are loaded when it runs, not with its options."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
import json
from pathlib import Path
from typing import Any, TYPE_CHECKING

from epvlm_ros.vlm.config import ServerConfig, VlmConfig

if TYPE_CHECKING:
    from epvlm_ros.eval.question_set import QuestionSet
    from epvlm_ros.eval.run import Job

SIMULATED, MOTION, STREAMS = 'simulated', 'simulated-motion', 'simulated-streams'
# Options that only some sources know, with what they are unless given.
_KNOWN_BY = {
    'events': ((SIMULATED,), 'sensor'), 'photos': ((SIMULATED,), ''),
    'frames': ((SIMULATED,), 'seen'), 'about': ((MOTION,), 'changes'),
    'conditions': ((MOTION, STREAMS), None)}
DEFAULT_POLICIES = (
    'random', 'uniform', 'centre', 'detail', 'saliency', 'objectness', 'frame_difference',
    'events', 'events_and_coverage', 'events_and_detail', 'events_and_saliency',
    'events_and_objectness', 'oracle')
DEFAULT_KEEP = (0.5, 0.3, 0.2)
_CHECKPOINT_SUFFIXES = ('.safetensors', '.json', '.jinja', '.txt', '.model')


def add_eval_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    model = VlmConfig()
    parser.add_argument(
        'source', help=f'{SIMULATED}, {MOTION}, {STREAMS}, or a .jsonl or .parquet file, or a '
        'folder of them, with the columns image, question and answer, such as RealWorldQA')
    parser.add_argument('--output', type=Path, default=Path('evaluation'), metavar='FOLDER',
                        help='folder of answers, summary and plot (default: %(default)s)')
    parser.add_argument('--questions', type=int, default=0, metavar='NUMBER',
                        help='most questions (default, also 0: 1000 simulated ones, a whole file)')
    parser.add_argument('--policies', nargs='+', metavar='NAME',
                        help='default: all that the source allows')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--keep', type=float, nargs='+', metavar='RATIO',
                        help='shares of the visual tokens to compute on (default: 0.5 0.3 0.2)')
    budget.add_argument('--saved', type=float, nargs='+', metavar='SHARE',
                        help='shares of the FLOPs of encoder and prefill to save instead')
    parser.add_argument('--wording', choices=('options', 'question'), default='options',
                        help='of questions from a file: with their options, or without, for '
                        'models that know no options (default: %(default)s)')
    _add_scene_options(parser)
    parser.add_argument('--blind', action='store_true',
                        help='ask no model: print how often the commonest answer to the words of '
                        'a question is right')
    streams = parser.add_argument_group(STREAMS)
    streams.add_argument('--conditions', nargs='+', metavar='NAME',
                         help='default: all but moving_camera; one for simulated-motion')
    streams.add_argument('--streams', type=int, default=16, metavar='NUMBER',
                         help='of each condition (default: %(default)s)')
    streams.add_argument('--updates', type=int, default=0, metavar='NUMBER',
                         help='most frames after the first one; 0 leaves it to the condition')
    parser.add_argument('--model', default=model.model,
                        help='folder or hub name (default: the embedded one)')
    parser.add_argument('--device', default=model.device, help='default: %(default)s')
    parser.add_argument('--dtype', default=model.dtype, help='default: %(default)s')
    parser.add_argument('--weights', default=model.weights, help='default: %(default)s')
    parser.add_argument('--max-pixels', type=int, default=model.max_pixels,
                        help='of the resized image; 0 leaves it to the model')
    parser.add_argument('--max-new-tokens', type=int, default=model.max_new_tokens,
                        help='most tokens of an answer (default: %(default)s)')
    parser.add_argument('--allow-download', action='store_true',
                        help='fetch a model that is not on this machine')
    parser.add_argument('--num-threads', type=int, default=model.num_threads,
                        help='CPU threads of torch; 0 leaves it to torch')
    parser.add_argument('--processes', type=int, default=1, metavar='NUMBER',
                        help='that share the images, each with the model (default: %(default)s)')
    parser.add_argument('--server', default='', metavar='URL',
                        help='ask the model on a server (docs/fleet.md); --model names the '
                        'checkpoint that it has')
    parser.add_argument('--server-model', default='', metavar='NAME',
                        help='on the server (default: the only one that it lists)')
    parser.add_argument('--in-flight', type=int, default=16, metavar='NUMBER',
                        help='questions that the server is asked at a time (default: %(default)s)')
    parser.add_argument('--timed', type=int, default=20, metavar='NUMBER',
                        help='images, the first ones; a question about each is asked alone for '
                        'the time to the first token (default: %(default)s)')
    parser.add_argument('--no-plot', action='store_true', help='draw no plot')
    parser.add_argument('--export', type=Path, metavar='FILE',
                        help='only write the simulated questions to a .jsonl or .parquet file '
                        "with RealWorldQA's columns")
    parser.set_defaults(run=eval_command)


def _add_scene_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of simulated scenes."""
    plain = {name: value for name, (_, value) in _KNOWN_BY.items()}
    parser.add_argument('--events', choices=('sensor', 'microsaccade'), default=plain['events'],
                        help='of simulated questions: of an event camera in the scene, or of a '
                        'small motion over the image, as for files (default: %(default)s)')
    parser.add_argument('--frames', choices=('seen', 'black', 'white', 'grey'),
                        default=plain['frames'],
                        help='of simulated questions: of the scene, or of one colour, which show '
                        'nothing; then only what one frame could answer is asked (default: '
                        '%(default)s)')
    parser.add_argument('--split', default='test',
                        help='of simulated scenes: test, hard for combinations and grounds that '
                        'training never saw, or randomised for looks and cameras that say little '
                        '(default: %(default)s)')
    parser.add_argument('--photos', default=plain['photos'], metavar='FOLDER',
                        help='images for grounds and surfaces of randomised scenes')
    parser.add_argument('--moments', type=int, default=3, metavar='NUMBER',
                        help=f'frames that {MOTION} shows, 1 to 3; they share the budget of one '
                        '(default: %(default)s)')
    parser.add_argument('--about', default=plain['about'],
                        help=f'what {MOTION} asks about: changes over three frames, or the latest '
                        'of them (default: %(default)s)')
    parser.add_argument('--first-scene', type=int, default=0, metavar='NUMBER',
                        help='of the simulated scenes (default: %(default)s)')


def eval_command(options: argparse.Namespace) -> None:
    """Evaluate, or export the questions."""
    from epvlm_ros.eval.export import export_questions

    _check_options(options)
    if options.source == STREAMS:
        if options.server:
            raise ValueError(f'--server: {STREAMS} need the model on this computer, leave it out')
        from epvlm_ros.eval.streams.command import evaluate_streams

        config = make_config(options)
        evaluate_streams(options, config, describe_model(config))
        return
    questions = open_questions(options)
    if options.blind:
        from epvlm_ros.eval.blind_guess import format_blind_guess

        print(format_blind_guess(questions))
        return
    if options.export:
        if options.source != SIMULATED:
            raise ValueError(f'--export writes simulated questions: give the source {SIMULATED}')
        print(f'{export_questions(questions, options.export)} questions in {options.export}')
        return
    evaluate(options, questions)


def _check_options(options: argparse.Namespace) -> None:
    """Raise a ValueError for an option that the source would ignore."""
    for name, (sources, plain) in _KNOWN_BY.items():
        value = getattr(options, name)
        if value != plain and options.source not in sources:
            raise ValueError(
                f'--{name} is {value}, which {options.source} does not know: leave it out, or '
                f'take {" or ".join(sources)}')


def open_questions(options: argparse.Namespace) -> QuestionSet:
    """Return the questions that the options name."""
    from epvlm_ros.eval.motion import MotionConfig, MotionSet, stream_under
    from epvlm_ros.eval.question_files import FileSet
    from epvlm_ros.eval.simulated import SimulatedSet, SimulationConfig

    if options.questions < 0:
        raise ValueError(f'--questions is {options.questions}: give at least 0')
    if options.source == MOTION:
        if options.server and options.moments > 1:
            raise ValueError(
                f'--moments is {options.moments}: a server takes one moment, give --moments 1')
        return MotionSet(MotionConfig(
            num_questions=options.questions or 1000, split=options.split,
            first_scene=options.first_scene, num_moments=options.moments, about=options.about,
            stream=stream_under(options.conditions or ())))
    if options.source != SIMULATED:
        return FileSet(Path(options.source), options.wording, options.questions)
    return SimulatedSet(SimulationConfig(
        num_questions=options.questions or 1000, split=options.split,
        first_scene=options.first_scene, photographs=options.photos, events=options.events,
        frames=options.frames))


def evaluate(options: argparse.Namespace, questions: QuestionSet) -> None:
    """Ask all questions, write answers, summary and plot, print the tables."""
    from epvlm_ros.eval.answer_file import AnswerFile, ANSWERS_FILE
    from epvlm_ros.eval.plot import draw_plot
    from epvlm_ros.eval.report import format_overview, format_report
    from epvlm_ros.eval.run import Job, run_job
    from epvlm_ros.eval.settings import make_settings
    from epvlm_ros.eval.summary import summarise
    from tqdm import tqdm

    config = make_config(options)
    server = make_server(options)
    settings = make_settings(choose_policies(options), choose_budgets(options))
    description = describe_run(config, questions, [item.name for item in settings], server)
    options.output.mkdir(parents=True, exist_ok=True)
    answers = AnswerFile(options.output / ANSWERS_FILE, description)
    job = Job(config, settings, questions, server)
    records = run_job(job, answers, lambda items: tqdm(
        items, total=len(questions), initial=min(len(answers.known), len(questions)),
        unit='question', disable=None), options.processes, options.in_flight)
    if not records:
        reason = ''.join(f'; row {item.row}: {item.reason}' for item in questions.problems[:1])
        raise ValueError(f'none of the {len(questions)} questions could be asked{reason}')
    times_ms = measure_once(job, options.timed, options.output / 'times.json', description)
    summary = summarise(records, questions.problems, description, times_ms)
    (options.output / 'summary.json').write_text(json.dumps(summary, indent=1) + '\n')
    (options.output / 'report.md').write_text(format_report(summary) + '\n')
    print(format_overview(summary))
    if not options.no_plot:
        draw_plot(summary, options.output / 'accuracy.png')
    print(f'\nanswers, summary, report and plot: {options.output}')


def make_config(options: argparse.Namespace) -> VlmConfig:
    """Return the configuration of the model under test."""
    return VlmConfig(
        model=options.model, device=options.device, dtype=options.dtype, weights=options.weights,
        max_pixels=options.max_pixels, max_new_tokens=options.max_new_tokens,
        allow_download=options.allow_download, num_threads=options.num_threads)


def make_server(options: argparse.Namespace) -> ServerConfig:
    """Return the server under test and its model, which it has; or none."""
    if not options.server:
        return ServerConfig()
    from epvlm_ros.vlm.remote import ModelServer, read_key

    if options.processes != 1:
        raise ValueError(
            f'--processes is {options.processes}: with --server give --in-flight instead')
    if options.in_flight < 1:
        raise ValueError(f'--in-flight is {options.in_flight}: give at least 1')
    server = ServerConfig(
        server=options.server, server_model=options.server_model, server_timeout=60.0,
        server_retries=5)
    found = ModelServer(server, read_key()).find_model(lambda: None)
    return replace(server, server_model=found)


def measure_once(
    job: Job, num_images: int, path: Path, description: dict[str, Any],
) -> dict[str, list[float]]:
    """Return times to the first token, from a file where it holds as many of the same run."""
    from epvlm_ros.eval.run import measure_times
    from tqdm import tqdm

    sample = json.loads(json.dumps({
        'run': description, 'images': num_images, 'threads': job.config.num_threads}))
    if path.is_file():
        found = json.loads(path.read_text())
        if found['sample'] == sample:
            return dict(found['times_ms'])
    times_ms = measure_times(job, num_images, lambda items: tqdm(
        items, total=num_images, unit='timed image', disable=None))
    path.write_text(json.dumps({'sample': sample, 'times_ms': times_ms}) + '\n')
    return times_ms


def choose_policies(options: argparse.Namespace) -> list[str]:
    """Return the policies to compare, checked."""
    from epvlm_ros.eval.policies import NEEDS_FRAME_BEFORE, NEEDS_TRUTH, POLICIES

    missing = {SIMULATED: (), MOTION: NEEDS_TRUTH}.get(
        options.source, (*NEEDS_TRUTH, *NEEDS_FRAME_BEFORE))
    possible = [name for name in POLICIES if name not in missing]
    chosen = options.policies or [name for name in DEFAULT_POLICIES if name in possible]
    for name in chosen:
        if name not in possible:
            raise ValueError(f'--policies {name}: give some of {", ".join(possible)}')
    return list(dict.fromkeys(chosen))


def choose_budgets(options: argparse.Namespace) -> list[Any]:
    """Return the budgets to compare."""
    from epvlm_ros.eval.budget import Budget

    if options.saved:
        return [Budget('saved', value) for value in dict.fromkeys(options.saved)]
    return [Budget('keep', value) for value in dict.fromkeys(options.keep or DEFAULT_KEEP)]


def describe_run(
    config: VlmConfig, questions: QuestionSet, settings: list[str],
    server: ServerConfig = ServerConfig(),
) -> dict[str, Any]:
    """Return what the answers depend on, in JSON; of a server its model, wherever that runs."""
    described = {
        'questions': questions.describe(),
        **describe_model(config, with_weights=not server.server), 'settings': settings}
    if server.server:
        described['server'] = {
            'model': server.server_model, 'jpeg_quality': server.server_jpeg_quality}
    return described


def describe_model(config: VlmConfig, *, with_weights: bool = True) -> dict[str, Any]:
    """Return what answers depend on of a model, in JSON."""
    from epvlm_ros.vlm.checkpoint import find_folder

    model = {name: value for name, value in asdict(config).items()
             if name not in ('num_threads', 'allow_download', 'revision', 'keep_ratio',
                             'selection', 'static_scene_policy')}
    folder = find_folder(config, with_weights=with_weights)
    return {'model': model, 'checkpoint': _describe_checkpoint(folder)}


def _describe_checkpoint(folder: Path) -> Any:
    """Return the commit of a snapshot from the hub, or the checksums of a folder's files."""
    from epvlm_ros.eval.answer_file import hash_file

    if folder.parent.name == 'snapshots':
        return folder.name
    return {path.name: hash_file(path) for path in sorted(folder.iterdir())
            if path.suffix in _CHECKPOINT_SUFFIXES}
