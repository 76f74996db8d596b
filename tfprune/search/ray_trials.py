"""Train the trials of a search on a Ray cluster, by Ray Tune; they are judged and kept here.

Tune starts trials, and starts those again whose worker or node was lost. What to try is chosen by
the search's own engine (`Searcher` is where Tune asks for it): Tune's wrapper of Optuna would learn
from trials in the order in which they happen to end.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfprune import parcels
from tfprune.cluster import Cluster, Place, call, settings
from tfprune.search.attempts import Attempts, failed, trained, untried
from tfprune.search.course import Course
from tfprune.search.result import Trial

_DEATHS = 3  # of the worker of a trial, before the trial is taken for the cause
_ALONE = "Search without engine='ray'"


class Mailbox:
    """What trials are to prune, and the models that come back; it lives where the search does.

    Models go through it, since what a lost node holds is lost with it.
    """

    def __init__(self) -> None:
        self._held: dict[Any, bytes] = {}

    def put(self, key: Any, content: bytes) -> None:
        """Hold bytes under a key."""
        self._held[key] = content

    def get(self, key: Any) -> bytes:
        """Return the bytes of a key."""
        return self._held[key]

    def take(self, key: Any) -> bytes:
        """Return the bytes of a key, and hold them no longer."""
        return self._held.pop(key)


def run(cluster: Cluster, course: Course, attempts: Attempts) -> None:
    """Train what a course asks for, until it is over.

    Args:
        cluster: that is connected.
        course: of the search.
        attempts: whose model and function for training are sent to the workers.

    Raises:
        ValueError: the model cannot be saved, or something cannot be pickled.
        KeyboardInterrupt: the user interrupted it; trials that are done are in the folder.
    """
    first = course.next()
    if first is None:  # the folder has all of them
        return
    ray, tune = cluster.ray, _tune()
    values = {"`train`": attempts.train}
    files = parcels.sent(attempts.model, values, False, _ALONE, dumps=ray.cloudpickle.dumps)
    if cluster.lack:
        course.say(cluster.lack)
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(_portable(Mailbox)).remote()
    chooser = _chooser(tune, ray, mailbox, course, attempts, first)
    trainable = tune.with_parameters(
        _trainable(cluster.place(keras.backend.backend())), files=files, mailbox=mailbox
    )
    names = {"CPU": "cpu", "GPU": "gpu"}
    resources = {names.get(name, name): amount for name, amount in cluster.resources.items()}
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder, _quiet():
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            # Actors are used again: TensorFlow takes seconds to start.
            tune_config=tune.TuneConfig(search_alg=chooser, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[_reports(tune, course)],
                failure_config=tune.FailureConfig(max_failures=_DEATHS - 1),
            ),
        )
        try:
            tuner.fit()
        except Exception:  # Tune's own, around whatever the chooser raised, which is told below
            if chooser.fault is None:
                raise
    if chooser.fault is not None:  # of this process, such as a disk that is full
        raise chooser.fault
    if not course.over:  # Tune ends quietly at Ctrl-C
        raise KeyboardInterrupt


def train(files: dict[str, bytes], chosen: bytes) -> bytes:
    """Return a trial and its model's file, pickled; run by workers."""
    choice = pickle.loads(chosen)
    trial, made = untried(choice), None
    try:
        model, (own,) = parcels.received(files)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        trial = failed(trial, error)  # a module of the user's, say, that this machine lacks
    else:
        trial, made = trained(model, own, choice)
    content = None
    if made is not None:
        try:
            content = parcels.model_bytes(made)
        except (NotImplementedError, TypeError, ValueError) as error:
            trial = failed(trial, error)
    return pickle.dumps((trial, content))


def _trainable(place: Place) -> Callable[..., None]:
    """Return what Tune runs for each trial; it travels by value, and loads Keras only then."""
    module = __name__

    def trial(config: dict[str, Any], files: dict[str, bytes], mailbox: Any) -> None:
        import ray
        from ray import tune

        number = config["number"]
        chosen = ray.get(mailbox.get.remote(("choice", number)))
        result = call(module, "train", place, files, chosen)
        ray.get(mailbox.put.remote(("result", number), result))
        tune.report({"number": number})

    return trial


def _chooser(
    tune: Any, ray: Any, mailbox: Any, course: Course, attempts: Attempts, first: Any
) -> Any:
    """Return the engine of a search as Tune asks it."""

    class Chooser(tune.search.Searcher):
        def __init__(self) -> None:
            super().__init__(metric="number", mode="max")
            self.fault: BaseException | None = None
            self._first, self._numbers = first, {}

        def suggest(self, trial_id: str) -> Any:
            with self._faults_kept():
                one, self._first = self._first or course.next(), None
            if one is None:
                return self.FINISHED if course.over else None
            number, choice = one
            self._numbers[trial_id] = number
            content = ray.cloudpickle.dumps(choice)
            ray.get(mailbox.put.remote(("choice", number), content))
            return {"number": number}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            number = self._numbers.pop(trial_id, None)
            if number is None:
                return
            with self._faults_kept():
                if error:
                    lost = RuntimeError(f"its worker was lost {_DEATHS} times")
                    course.done(number, failed(untried(course.choice(number)), lost), None)
                elif result is not None:
                    content = ray.get(mailbox.take.remote(("result", number)))
                    course.done(number, *_received(content, attempts.model))

        def save(self, checkpoint_path: str) -> None:
            """Write nothing: what the search keeps is in its own folder."""

        def restore(self, checkpoint_path: str) -> None:
            """Read nothing."""

        @contextlib.contextmanager
        def _faults_kept(self) -> Iterator[None]:
            try:
                yield
            except BaseException as error:  # Tune would tell of an error of its own instead
                self.fault = error
                raise

    return Chooser()


def _received(content: bytes, like: keras.Model) -> tuple[Trial, keras.Model | None]:
    trial, model = pickle.loads(content)
    if model is None:
        return trial, None
    try:
        return trial, parcels.model_of(model, like)
    except (ValueError, TypeError) as error:
        return failed(trial, error), None


def _reports(tune: Any, course: Course) -> Any:
    """Return what tells the user of workers that were lost."""

    class Reports(tune.Callback):
        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            number = trial.config["number"] + 1
            course.say(f"Trial {number}: its worker was lost; it is run again")

    return Reports()


def _portable(kind: type) -> type:
    """Return a class that travels by value: its module would load Keras where it is not needed."""
    return type(kind.__name__, (), {**vars(kind), "__module__": "__main__"})


def _tune() -> Any:
    try:
        from ray import tune
        from ray.tune import search as _  # noqa: F401 -- `tune.search`
    except ImportError as error:
        raise ImportError(
            "engine='ray' needs Ray Tune, of which a part is not installed "
            f"({error}): run `pip install 'tfprune[ray]'`. Received: engine='ray'"
        ) from error
    return tune


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Tune's own account of trials, on the screen and in files."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    own = {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    try:
        with settings(**own):
            yield
    finally:
        logger.setLevel(before)
