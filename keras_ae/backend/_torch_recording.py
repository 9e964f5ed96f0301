"""Steps that PyTorch runs again as they were recorded, without Python's detours.

In a step of a small model most of the time goes by between the kernels: layers,
metrics, the optimizer and autograd find out each time anew which of them to call. A
`Recorder` looks on while a step runs as ever and notes its kernels; `Recorded` calls
these alone, in the same order and with the same results, to the last bit.
"""

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten

# More shapes than an epoch has; those beyond run as ever.
MOST_SHAPES = 8
# Of what a step changes: kernels that add in any order differ by less, a number that
# should not have been frozen by more.
TOLERANCE = 1e-2

_current: ContextVar["Recorder | None"] = ContextVar("recorder", default=None)


class _Name(str):
    """Of a variable of the recorded program, in which it stands for itself."""

    __repr__ = str.__str__


class _Call(NamedTuple):
    results: Any
    function: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    is_needed: bool

    def reads(self):
        return set(_names((*self.args, *self.kwargs.values())))

    def source(self):
        args = [*map(repr, self.args)]
        args += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        call = f"{self.function}({', '.join(args)})"
        return call if self.results is None else f"{self.results!r} = {call}"


def _leaves(values):
    """What lists, tuples and dicts hold: of so few, sooner than by `keras.tree`."""
    if not isinstance(values, list | tuple | dict):
        yield values
        return
    for value in values.values() if isinstance(values, dict) else values:
        yield from _leaves(value)


def _names(values):
    return (v for v in _leaves(values) if isinstance(v, _Name))


class _Reads(TorchFunctionMode):
    """Notices that values are read without a kernel."""

    READS = (torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__)

    def __init__(self):
        super().__init__()
        self.found = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.found = self.found or function in self.READS
        return function(*args, **(kwargs or {}))


class Recorder(TorchDispatchMode):
    """Notes which kernels run inside its `with` block.

    Args:
        inputs: Tensors that differ from run to run.
        variables: Tensors that may be assigned.
    """

    def __init__(
        self, inputs: Sequence[torch.Tensor], variables: Sequence[torch.Tensor]
    ):
        super().__init__()
        self.refusal: str | None = None
        self.sources = []
        self.calls = []
        self.constants = {}
        self._tensors = WeakTensorKeyDictionary()
        self._others = {}
        self._read = []
        self._folded = {}
        self._reads = _Reads()
        self._copies = {}
        self._shared = []
        self._count = 0
        self._is_paused = False
        self.inputs = [self._new(tensor) for tensor in inputs]
        self._assignable = {self._constant(tensor) for tensor in variables}

    def __enter__(self):
        self._token = _current.set(self)
        self._reads.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._reads.__exit__(*error)
        _current.reset(self._token)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        results = function(*args, **kwargs)
        if not (self._is_paused or self.refusal):
            self._note(function, args, kwargs, results)
        return results

    def call(self, function: Callable, *args) -> None:
        """Calls a function, which assigns to tensors, and notes it as one kernel."""
        self._is_paused = True
        function(*args)
        self._is_paused = False
        self.calls.append(
            _Call(None, self._constant(function), self._referred(args), {}, True)
        )

    def _note(self, function, args, kwargs, results):
        if function is aten._local_scalar_dense.default:
            # Random numbers are drawn from a generator that was seeded with it; what
            # else could be done with a number cannot be seen.
            self._read.append((results, self._referred(args[0]), len(self.calls)))
            return
        if function in (aten.detach.default, aten.alias.default):
            self._tensors[results] = self._referred(args[0])
            return
        if function is aten.lift_fresh.default:
            self._referred(args[0])
            return
        is_random = torch.Tag.nondeterministic_seeded in function.tags
        is_needed = function._schema.is_mutable or is_random
        names, named = self._referred((args, kwargs))
        read = set(_names((names, list(named.values()))))
        frozen = read <= self.constants.keys() and read.isdisjoint(self._assignable)
        if not is_needed and read and frozen:
            # It comes to the same in each run, until something assigns to what it read.
            for name in read.union(map(self._referred, _leaves(results))):
                value = self.constants[name]
                if isinstance(value, torch.Tensor):
                    self._folded.setdefault(name, value._version)
            return
        if self._depends_on_values(function, args):
            self.refusal = f"{function} decides by the values of tensors"
            return
        if function is aten.clone.default and self._is_copied(args[0], named, results):
            return
        parameters = function._schema.arguments
        given = {p.name: value for p, value in zip(parameters, args, strict=False)}
        given |= kwargs
        written = [given.get(p.name) for p in parameters if p.is_write]
        written = [part for part in _leaves(written) if part is not None]
        if not all(map(self._may_assign, written)):
            self.refusal = f"{function} changes what is none of the model's"
        if written:
            # A copy and what it is a copy of are no longer the same.
            self._copies.clear()
        results, function = self._bound(results), self._constant(function)
        self.calls.append(_Call(results, function, names, named, is_needed))

    def _is_copied(self, tensor, kwargs, copy):
        """Notes a copy: of a copy that of its source, or where it will do the source.

        Around a convolution Keras brings the channels to the front, and back for the
        kernel, which wants them last.
        """
        name = self._referred(tensor)
        if name in self.constants:
            return False
        source, original = self._copies.get(name, (name, tensor))
        if original is not tensor and original.stride() == copy.stride():
            self._tensors[copy] = source
            self._shared += original, copy
            return True
        function = self._constant(aten.clone.default)
        self.calls.append(_Call(self._new(copy), function, [source], kwargs, False))
        self._copies[self._tensors[copy]] = source, original
        return True

    def _depends_on_values(self, function, args):
        if function is aten.index.Tensor:
            masks = (torch.bool, torch.uint8)
            return any(i is not None and i.dtype in masks for i in args[1])
        tags = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
        return any(tag in function.tags for tag in tags)

    def _may_assign(self, tensor):
        name = self._referred(tensor)
        if name in self.constants:
            return name in self._assignable
        place = tensor.untyped_storage().data_ptr()
        shared = (other.untyped_storage().data_ptr() for other in self._shared)
        return place not in shared

    def _new(self, tensor):
        self._count += 1
        name = self._tensors[tensor] = _Name(f"t{self._count}")
        return name

    def _constant(self, value):
        is_tensor = isinstance(value, torch.Tensor)
        known = self._tensors if is_tensor else self._others
        if value not in known:
            known[value] = _Name(f"c{len(self.constants)}")
            self.constants[known[value]] = value
        return known[value]

    def _referred(self, value):
        """The arguments of a kernel, as the program names them."""
        if isinstance(value, torch.Tensor):
            return self._tensors.get(value) or self._constant(value)
        if isinstance(value, torch.Generator):
            return self._generator(value)
        if isinstance(value, list | tuple):
            return [self._referred(item) for item in value]
        if isinstance(value, dict):
            return {name: self._referred(item) for name, item in value.items()}
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        return self._constant(value)

    def _generator(self, generator):
        if generator not in self._others:
            seed = generator.initial_seed()
            seeds = [
                (number, name, place)
                for number, name, place in self._read
                # As Keras makes a seed from a number.
                if isinstance(number, int) and number & 0xFFFFFFFF == seed
            ]
            if not seeds:
                self.refusal = "random numbers are drawn with a seed of unknown origin"
                return None
            self._read.remove(seeds[0])
            args = (self._constant(generator), seeds[0][1])
            self.calls.append(_Call(None, self._constant(_seed), args, {}, True))
        return self._constant(generator)

    def _bound(self, results):
        """Names of a kernel's results; None for what it was given."""
        if isinstance(results, torch.Tensor):
            is_known = results in self._tensors
            return None if is_known else self._new(results)
        if isinstance(results, list | tuple) and results:
            return [self._bound(result) or _Name("_") for result in results]
        return None

    def finish(self, outputs: Sequence[torch.Tensor]) -> "Program | None":
        """Returns a program that computes the outputs from the inputs.

        It is None where the step can't be run again as it was; `refusal` says why.
        """
        if self._reads.found or not all(
            self._is_settled(name, place) for _, name, place in self._read
        ):
            self.refusal = "numbers are read from tensors"
        if self.refusal:
            return None
        # A candidate waits for its next batch without the tensors of this one.
        self._shared.clear()
        self._copies.clear()
        numbers = [number for number, _, _ in self._read]
        decisive = [name for _, name, _ in self._read]
        pure = [call for call in self.calls if not call.is_needed]
        return Program(
            self._function(self.inputs, self._referred(outputs), self.calls),
            self._function([], decisive, pure),
            numbers,
            [(self.constants[name], found) for name, found in self._folded.items()],
        )

    def agrees(self, other: "Recorder") -> bool:
        """Whether another step was the same program, with the same constants."""
        if self.refusal or other.refusal or self.sources != other.sources:
            return False
        return self.constants.keys() == other.constants.keys() and all(
            self._is_same(name, value, other.constants[name])
            for name, value in self.constants.items()
        )

    def _is_same(self, name, value, found):
        if found is value or not isinstance(value, torch.Tensor):
            # Functions and generators are made anew.
            return True
        kinds = {(v.shape, v.dtype, v.device, v.layout) for v in (value, found)}
        if name in self._assignable or len(kinds) > 1 or value.is_sparse:
            return False
        # By those without values Keras finds out shapes.
        return value.is_meta or torch.equal(
            torch.nan_to_num(value), torch.nan_to_num(found)
        )

    def _is_settled(self, name, place):
        """Whether a number depends on variables only, as they are before the step."""
        chain, changes = {name}, []
        for call in reversed(self.calls[:place]):
            if call.is_needed:
                changes.append(call)
            elif chain.intersection(_names(call.results)):
                chain |= call.reads()
        touched = set().union(*(call.reads() for call in changes))
        touched |= {n for call in changes for n in _names(call.results)}
        return not chain & (touched | set(self.inputs))

    def _function(self, inputs, outputs, calls):
        wanted, lines = set(outputs), []
        self.sources.append((repr(outputs), [call.source() for call in calls]))
        for call in reversed(calls):
            results = set(_names(call.results))
            if not (call.is_needed or results & wanted):
                continue
            # Memory is free again as soon as nothing reads it.
            done = (call.reads() | results) - wanted - self.constants.keys() - {"_"}
            wanted |= call.reads()
            line = call.source()
            lines.append(f"{line}; {' = '.join(sorted(done))} = None" if done else line)
        body = "\n    ".join([*reversed(lines), f"return {outputs!r}"])
        source = f"def run({', '.join(inputs)}):\n    {body}\n"
        # What an operator calls, without its Python.
        scope = {name: getattr(v, "_op", v) for name, v in self.constants.items()}
        exec(compile(source, "<recorded step>", "exec"), scope)
        return scope["run"]


class Program(NamedTuple):
    """A recorded step.

    Attributes:
        run: Function of the inputs that returns the outputs.
        decide: Function of nothing that returns the tensors of which the step reads
            numbers.
        numbers: Those that it read when it was recorded, and decided by.
        folded: Tensors that it takes for constants, and their versions.
    """

    run: Callable
    decide: Callable
    numbers: list[int | float | bool]
    folded: list[tuple[torch.Tensor, int]]

    def holds(self) -> bool:
        """Whether the step would decide as it did, by what it decided by."""
        if any(tensor._version != version for tensor, version in self.folded):
            return False
        return not self.numbers or [v.item() for v in self.decide()] == self.numbers


def _seed(generator, number):
    generator.manual_seed(int(number) & 0xFFFFFFFF)


def call(function: Callable, *args) -> None:
    """Calls a function that reads numbers from tensors, and may assign to some.

    Such a function can't be recorded kernel by kernel, but as a whole.
    """
    recorder = _current.get()
    if recorder is None:
        function(*args)
    else:
        recorder.call(function, *args)


class Recorded:
    """A step that runs as it was recorded, once that is known to do the same.

    Of batches of equal shapes the first runs as ever, the second is recorded, and the
    third is run both ways and recorded again: results and programs must be the same. A
    step that reads numbers from tensors, to decide by them, runs as ever, unless the
    numbers depend on variables only and are what they were. What Python decides is
    decided when it is recorded.
    Logs on the CPU are numbers then.

    Args:
        step: Function of a batch that returns a dict of tensors.
        variables: Function of nothing that returns all variables that `step` assigns.

    Attributes:
        programs: By the shapes of a batch, the logs' names and the `Program`.
        refusals: By shapes, why their batches run as ever.
    """

    def __init__(
        self, step: Callable, variables: Callable[[], Sequence[keras.Variable]]
    ):
        self.step = step
        self.variables = variables
        self.refusals = {}
        self._met = set()
        self._candidates = {}
        self.programs = {}

    def __call__(self, data: Any) -> dict[str, Any]:
        parts = data if isinstance(data, list | tuple) else (data,)
        inputs = [part for part in parts if part is not None]
        if not all(type(part) is torch.Tensor for part in inputs):
            return self.step(data)
        shapes = tuple(
            part
            if part is None
            else (part.shape, part.stride(), part.dtype, part.device)
            for part in parts
        )
        known = self.programs.get(shapes) or self._candidates.get(shapes)
        if known is not None and not known[1].holds():
            return self.step(data)
        if shapes in self.programs:
            names, program = self.programs[shapes]
            logs = self._run(names, program, inputs)
            # Where nothing waits for them, Keras reads numbers faster than tensors.
            on_cpu = inputs[0].device.type == "cpu"
            return {k: float(v) for k, v in logs.items()} if on_cpu else logs
        if shapes in self._candidates:
            return self._compare(shapes, data, inputs)
        if shapes in self._met and shapes not in self.refusals:
            return self._record(shapes, data, inputs)
        if len(self._met) < MOST_SHAPES:
            self._met.add(shapes)
        return self.step(data)

    def _run(self, names, program, inputs):
        with torch.no_grad():
            return dict(zip(names, program.run(*inputs), strict=True))

    def _values(self):
        return [variable.value for variable in self.variables()]

    def _record(self, shapes, data, inputs):
        with Recorder(inputs, self._values()) as recorder:
            logs = self.step(data)
        if not _are_tensors(logs):
            recorder.refusal = "logs are no tensors"
        program = recorder.finish(list(logs.values()))
        if program is None:
            self.refusals[shapes] = recorder.refusal
        else:
            self._candidates[shapes] = tuple(logs), program, recorder
        return logs

    def _compare(self, shapes, data, inputs):
        names, program, recorder = self._candidates.pop(shapes)
        values = self._values()
        before = [value.detach().clone() for value in values]
        devices = {value.device for value in inputs if value.device.type == "cuda"}
        with torch.random.fork_rng(devices):
            found = self._run(names, program, inputs)
        after = [value.detach().clone() for value in values]
        with torch.no_grad():
            for value, old in zip(values, before, strict=True):
                value.copy_(old)
        with Recorder(inputs, values) as again:
            logs = self.step(data)
        self.refusals[shapes] = "another batch is computed in another way"
        if tuple(logs) != names or not _are_tensors(logs):
            return logs
        again.finish(list(logs.values()))
        nothing = [torch.zeros_like(value) for value in logs.values()]
        same = map(
            _agree,
            (*before, *nothing),
            (*after, *found.values()),
            (*values, *logs.values()),
        )
        if all(same) and recorder.agrees(again):
            del self.refusals[shapes]
            self.programs[shapes] = names, program
        return logs


def _are_tensors(logs):
    return all(isinstance(value, torch.Tensor) for value in logs.values())


def _agree(before, found, expected):
    """Whether two ways to change a tensor come to the same."""
    before, found, expected = (
        torch.nan_to_num(value.detach().double()) for value in (before, found, expected)
    )
    allowed = TOLERANCE * torch.linalg.vector_norm(expected - before)
    allowed = allowed + 1e-6 * torch.linalg.vector_norm(expected)
    return bool(torch.linalg.vector_norm(found - expected) <= allowed)
