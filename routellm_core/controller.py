"""``Controller``: RouteLLM's public surface over the selector and a backend.

A program written for RouteLLM changes its import from ``routellm.controller`` to ``routellm_core.controller``.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from routellm_core._options import validated
from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.backends.caller import ResilientCaller
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.calibration import CalibrationSource, calibrations_by_router
from routellm_core.decision import StrongShare, requested_model, requested_threshold
from routellm_core.errors import ConfigError, RoutingError, UnknownRouterError, UnsupportedPromptError, did_you_mean
from routellm_core.memory import ConversationMemory
from routellm_core.prompts import as_messages
from routellm_core.responses import AsyncRoutedStream, RoutedStream, answer_content, attach_decision
from routellm_core.routers.base import Router
from routellm_core.routers.registry import available_routers, load_router
from routellm_core.scoring import score_in_batches
from routellm_core.selector import ModelSelector
from routellm_core.turns import Recorder, Turn
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["GPT_4_AUGMENTED_CONFIG", "Controller", "RoutingError"]

_NOT_PICKLED = ("_counts_lock", "_caller", "chat", "cool_downs")

T = TypeVar("T")
ModelSpec = str | Mapping[str, Any] | ModelSettings

GPT_4_AUGMENTED_CONFIG: dict[str, dict[str, Any]] = {
    "sw_ranking": {
        "arena_battle_datasets": ["lmsys/lmsys-arena-human-preference-55k", "routellm/gpt4_judge_battles"],
        "arena_embedding_datasets": [
            "routellm/arena_battles_embeddings",
            "routellm/gpt4_judge_battles_embeddings",
        ],
    },
    "causal_llm": {"checkpoint_path": "routellm/causal_llm_gpt4_augmented"},
    "bert": {"checkpoint_path": "routellm/bert_gpt4_augmented"},
    "mf": {"checkpoint_path": "routellm/mf_gpt4_augmented"},
}
"""RouteLLM's published checkpoints, for ``config=``; there it is the default, here the embedded ones are."""


class WholeConfig(Protocol):
    """A whole configuration, such as :func:`routellm_core.load_config` returns: more than the routers' options."""

    def controller_options(self, routers: Sequence[str]) -> dict[str, Any]:
        """Return what it says of the arguments of :class:`Controller`, the two models aside."""
        ...


class Controller:
    """Routes OpenAI-shaped chat completions between two models.

    Args:
        routers: names of the routers to load; the first is the default.
        strong_model: the strong model: a name, or its settings (base URL, key, extra parameters).
        weak_model: likewise the weak model.
        config: options per router, as in RouteLLM's configuration: ``{"mf": {"checkpoint_path": …}}``, also under
            ``routers``. Routers without an entry take their defaults; ``mf`` then works offline. A whole configuration
            (of :func:`routellm_core.load_config`) gives every argument that is not passed, the two models aside.
        api_base: base URL for the models that have none of their own.
        api_key: key for the models that have none of their own.
        progress_bar: show one while routers load and prompts are scored.
        threshold: the default threshold, for calls that name none: a number in [0, 1], or a share of strong calls such
            as ``"50%"``.
        strong_share: the same share as a number in [0, 1].
        calibration: calibrations or files of ``routellm calibrate --save``, each for one of the routers; see
            :class:`~routellm_core.selector.ModelSelector`.
        backend: calls the models; by default directly where they speak OpenAI's protocol, else through litellm.
        resilience: retries and fallback to the other model.
        selector_options: further options of :class:`~routellm_core.selector.ModelSelector` (``extract``,
            ``wrappers``, ``no_prompt_tier``, ``on_scoring_error``, ``sticky``, ``sticky_release``, ``memory``).

    Attributes:
        model_pair: the names of the two models.
        models: the settings of both models by tier.
        resilience: retries and fallback to the other model.
        cool_downs: which of the models are failing just now, by tier.
        routers: the loaded routers by name.
        model_counts: answers per router and model, ``model_counts[router][model]``; of two models of one name, with the
            tier after it.
        chat: ``chat.completions.create`` and ``acreate``, as in OpenAI's client.

    Raises:
        ConfigError: no router, an unknown option, or settings that do not fit.
        UnknownRouterError: a router that is not registered.
    """

    def __init__(
        self,
        routers: Sequence[str],
        strong_model: ModelSpec,
        weak_model: ModelSpec,
        config: Mapping[str, Any] | WholeConfig | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        progress_bar: bool = False,
        *,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        calibration: CalibrationSource | Sequence[CalibrationSource] | None = None,
        backend: ChatBackend | None = None,
        resilience: ResiliencePolicy | None = None,
        selector_options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(routers, str) or not routers:
            raise ConfigError(f"routers={routers!r} must be a non-empty list of router names, such as ['mf']")
        given = {
            "threshold": requested_threshold(threshold, strong_share),
            "calibration": calibration,
            "resilience": resilience,
            "selector_options": selector_options,
        }
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if config is not None and hasattr(config, "controller_options"):
            whole = config.controller_options(routers)
            if "calibration" in options:  # the configured threshold is for other traffic
                whole.pop("threshold", None)
            options = {**whole, **options}
        else:
            options["config"] = _router_options(config, routers)
        models: dict[Tier, ModelSettings] = {
            "strong": _model_settings(strong_model, api_base, api_key),
            "weak": _model_settings(weak_model, api_base, api_key),
        }
        self.models: Mapping[Tier, ModelSettings] = models
        self.resilience: ResiliencePolicy = options.get("resilience") or ResiliencePolicy()
        self.model_pair = ModelPair(strong=models["strong"].model, weak=models["weak"].model)
        self.progress_bar = progress_bar
        self.model_counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.routers = self._load_routers(routers, options["config"])
        calibrations = calibrations_by_router(options.get("calibration"), self.routers)
        limits: dict[str, Any] = {
            "threshold": options.get("threshold"),
            "memory": ConversationMemory(),  # one for all routers
            "models": models,
            **options.get("selector_options", {}),
        }
        self._selectors = {
            name: ModelSelector(router, self.model_pair, calibration=calibrations.get(name), **limits)
            for name, router in self.routers.items()
        }
        if backend is None:
            from routellm_core.backends.chat import ModelBackend

            backend = ModelBackend()
        self._backend = backend
        self._prepare()

    def _prepare(self) -> None:
        self._counts_lock = threading.Lock()
        self.cool_downs = self.resilience.cool_downs()
        self._caller = ResilientCaller(self._backend, self.models, policy=self.resilience, cool_downs=self.cool_downs)
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.completion, acreate=self.acompletion))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        # Frameworks copy what holds a controller; its routers, models and counts are meant to be shared.
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def completion(
        self,
        *,
        router: str | None = None,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        session: str | None = None,
        **parameters: Any,
    ) -> Any:
        """Route a chat completion and return the chosen model's answer.

        Args:
            router: a loaded router; by default the first one.
            threshold: in [0, 1], or a share of strong calls such as ``"50%"``; by default the controller's.
            strong_share: the same share as a number in [0, 1].
            session: the conversation's id; else it is looked for in ``prompt_cache_key`` and ``metadata``, see
                ``docs/conversations.md``.
            **parameters: OpenAI's chat completion parameters, passed through to the model: ``messages``, ``tools``,
                ``response_format``, ``stream`` … ``model`` names the routing, ``"router-mf-0.116"`` or
                ``"router-mf-50%"``, and wins over ``router`` and ``threshold``; ``"auto"`` takes the defaults, and the
                name of one of the two models, or ``"strong"`` or ``"weak"``, goes there without scoring.
                ``num_retries`` is the number of further attempts at one model, in place of the policy's.

        Returns:
            the completion, with the decision in ``response.routing``; with ``stream=True`` a :class:`RoutedStream`.

        Raises:
            RoutingError: the request cannot be routed (unknown router or model name, no messages …).
            BackendError: the model failed, and so did the other one or fallback is off.
        """
        selector, options, attempts = self._request(router, threshold, strong_share, parameters)
        turn = Turn.of(parameters["messages"], parameters, session=session)
        decision = selector.select(turn, **options)
        request_for = self.request_for(turn, parameters)
        response, decision = self._caller.call(decision, parameters, attempts=attempts, request_for=request_for)
        self._count(decision)
        recorder = self.recorder(turn, decision)
        if parameters.get("stream"):
            return RoutedStream(response, decision, recorder)
        recorder.saw(answer_content(response))
        return attach_decision(response, decision)

    async def acompletion(
        self,
        *,
        router: str | None = None,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        session: str | None = None,
        **parameters: Any,
    ) -> Any:
        """Do as :meth:`completion` does without blocking the event loop; streams are :class:`AsyncRoutedStream`."""
        selector, options, attempts = self._request(router, threshold, strong_share, parameters)
        turn = Turn.of(parameters["messages"], parameters, session=session)
        decision = await selector.aselect(turn, **options)
        request_for = await self.arequest_for(turn, parameters)
        response, decision = await self._caller.acall(decision, parameters, attempts=attempts, request_for=request_for)
        self._count(decision)
        recorder = self.recorder(turn, decision)
        if parameters.get("stream"):
            return AsyncRoutedStream(response, decision, recorder)
        await recorder.asaw(answer_content(response))
        return attach_decision(response, decision)

    def route(
        self,
        prompt: str,
        router: str | None = None,
        threshold: float | str | StrongShare | None = None,
        *,
        strong_share: float | None = None,
    ) -> str:
        """Return the name of the model that ``prompt`` should go to."""
        return self.decide(prompt, router=router, threshold=threshold, strong_share=strong_share).model

    def decide(
        self,
        conversation: str | Sequence[Mapping[str, Any]],
        *,
        router: str | None = None,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        session: str | None = None,
    ) -> RoutingDecision:
        """Return the whole decision for a prompt or for messages, without calling a model."""
        selector = self.selector(router)
        return selector.select(conversation, threshold=threshold, strong_share=strong_share, session=session)

    async def adecide(
        self,
        conversation: str | Sequence[Mapping[str, Any]] | Turn,
        *,
        model: str | None = None,
        session: str | None = None,
    ) -> RoutingDecision:
        """Return the decision that :meth:`acompletion` would take, without calling a model or blocking the loop.

        Args:
            conversation: a prompt, chat messages, or a request that was read already.
            model: the routing, as :meth:`completion` takes it; None and ``"auto"`` are the defaults.
            session: the conversation's id.
        """
        selector, options = self._selection(model)
        return await selector.aselect(conversation, session=session, **options)

    def request_for(self, turn: Turn, parameters: Mapping[str, Any]) -> Callable[[Tier], Mapping[str, Any]]:
        """Return what to send to each tier; see :meth:`~routellm_core.selector.ModelSelector.request_for`."""
        return self.selector().request_for(turn, parameters)

    async def arequest_for(self, turn: Turn, parameters: Mapping[str, Any]) -> Callable[[Tier], Mapping[str, Any]]:
        """Do as :meth:`request_for` does, without blocking the event loop."""
        return await self.selector().arequest_for(turn, parameters)

    def recorder(self, turn: Turn, decision: RoutingDecision) -> Recorder:
        """Return what takes in the answer; see :meth:`~routellm_core.selector.ModelSelector.recorder`."""
        return self.selector().recorder(turn, decision)

    def batch_calculate_win_rate(self, prompts: Iterable[str], router: str) -> Any:
        """Score many prompts.

        Args:
            prompts: n prompts; a list, an array or a pandas Series.
            router: a loaded router.

        Returns:
            P(strong strictly beats weak), shape (n,): a Series with the same index for a Series, else an array.
        """
        loaded = self.selector(router).router
        if isinstance(prompts, str):
            raise UnsupportedPromptError("prompts is one text; give a list of prompts, [text]")
        texts = list(prompts)
        batches = score_in_batches(loaded, texts)
        total = -(-len(texts) // 256)
        scores = np.concatenate([np.empty(0), *self._tracked(batches, f"Scoring with {router}", total)])
        is_series = hasattr(prompts, "index") and hasattr(prompts, "to_list")
        return type(prompts)(scores, index=prompts.index) if is_series else scores  # type: ignore[call-arg, attr-defined]

    def selector(self, router: str | None = None) -> ModelSelector:
        """Return the selector of a loaded router, by default of the first.

        Raises:
            UnknownRouterError: the router is not loaded here.
        """
        name = next(iter(self._selectors)) if router is None else router
        if name not in self._selectors:
            raise UnknownRouterError(
                f"invalid router {name!r}; the routers loaded here are {', '.join(self._selectors)}."
                f"{did_you_mean(str(name), self._selectors)}"
            )
        return self._selectors[name]

    def _request(
        self,
        router: str | None,
        threshold: float | str | StrongShare | None,
        strong_share: float | None,
        parameters: dict[str, Any],
    ) -> tuple[ModelSelector, dict[str, Any], int | None]:
        """Take ``model`` and the retries out of the parameters; return the selector, its options and the attempts."""
        limit = requested_threshold(threshold, strong_share)
        model = parameters.pop("model", None)
        if "messages" not in parameters:
            raise RoutingError("messages is missing; give messages=[{'role': 'user', 'content': 'Hello'}]")
        parameters["messages"] = as_messages(parameters["messages"])
        return *self._selection(model, router, limit), _attempts(parameters)

    def _selection(
        self, model: str | None, router: str | None = None, threshold: float | StrongShare | None = None
    ) -> tuple[ModelSelector, dict[str, Any]]:
        wish = requested_model(model, self.model_pair)
        if wish.force is not None:
            return self.selector(router), {"force": wish.force}
        limit = threshold if wish.threshold is None else wish.threshold
        return self.selector(wish.router or router), {} if limit is None else {"threshold": limit}

    def _load_routers(self, names: Sequence[str], config: Mapping[str, Mapping[str, Any]]) -> dict[str, Router]:
        tracked = self._tracked(names, "Loading routers", len(names))
        return {name: load_router(name, config.get(name)) for name in tracked}

    def _tracked(self, items: Iterable[T], what: str, total: int) -> Iterable[T]:
        if not self.progress_bar:
            return items
        from rich.progress import track

        return track(items, description=what, total=total)

    def _count(self, decision: RoutingDecision) -> None:
        has_one_name = self.model_pair.strong == self.model_pair.weak
        model = f"{decision.model} ({decision.tier})" if has_one_name else decision.model
        with self._counts_lock:
            self.model_counts[decision.router][model] += 1


def _model_settings(spec: ModelSpec, api_base: str | None, api_key: str | None) -> ModelSettings:
    if isinstance(spec, ModelSettings):
        settings = spec
    elif isinstance(spec, Mapping):
        settings = validated(ModelSettings, dict(spec), subject="model settings")
    elif isinstance(spec, str):
        settings = ModelSettings(model=spec)
    else:
        raise ConfigError(f"a model must be a name, a mapping or ModelSettings, got {type(spec).__name__}")
    shared = {"api_base": api_base, "api_key": api_key}
    missing = {key: value for key, value in shared.items() if value is not None and getattr(settings, key) is None}
    return ModelSettings.model_validate({**settings.model_dump(), **missing}) if missing else settings


def _router_options(config: Any, routers: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return options by router name out of RouteLLM's form, or of the fuller form's ``routers``.

    Raises:
        ConfigError: another type, or a key that is no router's name.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"config must map router names to their options, or be what load_config() returns, "
            f"got {type(config).__name__}"
        )
    options = {key: value for key, value in config.items() if key != "routers"}
    options.update(config.get("routers") or {})
    known = {*available_routers(), *routers}
    for name, value in options.items():
        if name not in known:
            raise ConfigError(
                f"config has the unknown key {name!r}; its keys are names of routers ({', '.join(sorted(known))})."
                f"{did_you_mean(str(name), known)} For a whole configuration file, use build_controller(load_config(…))"
            )
        if not isinstance(value, Mapping | None):
            raise ConfigError(f"config[{name!r}] must map option names to values, got {type(value).__name__}")
    return {name: value or {} for name, value in options.items()}


def _attempts(parameters: dict[str, Any]) -> int | None:
    given = [parameters.pop(name) for name in ("num_retries", "max_retries") if name in parameters]
    retries = next((value for value in given if value is not None), None)
    if retries is None:
        return None
    if not isinstance(retries, int) or retries < 0:
        raise ConfigError(f"num_retries={retries!r} must be a number of retries, 0 or more")
    return retries + 1
