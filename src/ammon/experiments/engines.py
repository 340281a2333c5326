"""Engines: where points are measured. Worker processes of this machine (joblib), a Dask cluster or a Ray cluster; the rows are the same.

Each point is measured on one thread from a seed of its own, so neither the engine nor the number of workers nor the order can show in it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from ammon.experiments.base import Point, Row, generator_of
from ammon.experiments.store import DECISIVE, versions

# seconds to wait for a cluster to answer, and for its first worker
PATIENCE = 10


class Task(NamedTuple):
    """One point to be measured."""

    place: int  # in the grid
    measure: Callable[..., Row | Sequence[Row]]
    point: Point
    seed: int


class Done(NamedTuple):
    """What a worker gives back: the rows, and what they were made with."""

    place: int  # in the grid
    rows: list[Row]
    versions: dict[str, str]


# gives the points in the order in which they are done
Engine = Callable[[Sequence[Task]], Iterator[Done]]


def measure(task: Task) -> Done:
    """Measure one point, on one thread, whatever the process does else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            found = task.measure(task.point, generator=generator_of(task.seed))
    finally:
        torch.set_num_threads(threads)
    return Done(task.place, [found] if isinstance(found, Mapping) else list(found), versions())


@contextmanager
def connect(engine: str, workers: int | None = None) -> Iterator[Engine]:
    """The engine "local", "dask:ADDRESS" or "ray". ValueError, in one line, if there is none or it cannot be reached."""
    kind, _, address = engine.partition(":")
    if workers is not None and (kind != "local" or workers < 1):
        raise ValueError(f"--workers: a count of at least 1, of the engine local, is needed; got {workers} for {engine}.")
    if kind == "dask" and address:
        with _dask(address) as found:
            yield _checked(found)
    elif engine == "ray":
        with _ray() as found:
            yield _checked(found)
    elif engine == "local":
        yield lambda tasks: _local(tasks, workers)
    else:
        raise ValueError(f"--engine: local, dask:ADDRESS (such as dask:tcp://127.0.0.1:8786) or ray is needed, got {engine!r}.")


def _local(tasks: Sequence[Task], workers: int | None) -> Iterator[Done]:
    try:
        from joblib import Parallel, cpu_count, delayed, parallel_config
        from joblib.externals.loky.process_executor import TerminatedWorkerError
    except ImportError as error:
        raise ImportError("the engine local needs joblib, which is missing; pip install 'ammon[lab]'.") from error
    count = min(workers or cpu_count(), len(tasks))
    if count <= 1:
        yield from map(measure, tasks)
        return
    try:
        with parallel_config(backend="loky", inner_max_num_threads=1):
            yield from Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1)(delayed(measure)(task) for task in tasks)
    except TerminatedWorkerError as error:
        raise RuntimeError(
            "a worker process was killed, perhaps for lack of memory; what was measured is kept: run again with fewer --workers."
        ) from error


@contextmanager
def _dask(address: str) -> Iterator[Engine]:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ImportError("the engine dask needs distributed, which is missing; pip install 'ammon[dask]'.") from error
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"--engine: no Dask scheduler answers at {address!r} ({_first_line(error)}); start one, or use --engine local."
        ) from error

    def compute(tasks: Sequence[Task]) -> Iterator[Done]:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ValueError(f"--engine: the Dask scheduler at {address!r} has no workers; start some, or use --engine local.") from error
        futures = [client.submit(measure, task, pure=False) for task in tasks]
        try:
            for future in as_completed(futures, loop=client.loop):
                yield future.result()
        finally:
            client.cancel(futures)

    try:
        yield compute
    finally:
        client.close()


@contextmanager
def _ray() -> Iterator[Engine]:
    try:
        import ray
    except ImportError as error:
        raise ImportError("the engine ray needs ray, which is missing; pip install ray, or use --engine local.") from error
    own = not ray.is_initialized()
    if own:
        try:
            # the cluster of RAY_ADDRESS, or one of this machine's own
            ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"--engine: ray could not be reached ({_first_line(error)}); start it, or use --engine local.") from error

    def compute(tasks: Sequence[Task]) -> Iterator[Done]:
        remote = ray.remote(num_cpus=1)(measure)
        left = [remote.remote(task) for task in tasks]
        while left:
            done, left = ray.wait(left)
            yield from ray.get(done)

    try:
        yield compute
    finally:
        if own:
            ray.shutdown()


def _checked(engine: Engine) -> Engine:
    """The engine; RuntimeError if a worker has other versions, since its rows may differ."""

    def compute(tasks: Sequence[Task]) -> Iterator[Done]:
        here = versions()
        for done in engine(tasks):
            other = [f"{name} {done.versions.get(name)}, here {here[name]}" for name in DECISIVE if done.versions.get(name) != here[name]]
            if other:
                raise ValueError(f"--engine: a worker has {'; '.join(other)}: its rows may differ. Install the same everywhere.")
            yield done

    return compute


def _first_line(error: BaseException) -> str:
    text: Any = str(error).strip() or type(error).__name__
    return str(text.splitlines()[0])
