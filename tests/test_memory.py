from __future__ import annotations

from routellm_core.memory import ConversationMemory, conversation_key


def test_a_growing_conversation_keeps_its_key() -> None:
    opening = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    later = [*opening, {"role": "assistant", "content": "A"}, {"role": "user", "content": "Q2"}]
    assert conversation_key(opening) == conversation_key(later)
    assert conversation_key(opening) != conversation_key([{"role": "user", "content": "Q"}])
    assert conversation_key([{"role": "user", "content": "\ud800"}])


def test_a_conversation_is_forgotten_after_its_time() -> None:
    now = [0.0]
    memory = ConversationMemory(ttl_seconds=10, clock=lambda: now[0])
    memory.remember_strong("a")
    now[0] = 9
    assert memory.is_strong("a")
    now[0] = 18  # each use counts anew
    assert memory.is_strong("a")
    now[0] = 29
    assert not memory.is_strong("a")


def test_the_least_recently_used_is_forgotten_first() -> None:
    memory = ConversationMemory(capacity=2)
    memory.remember_strong("a")
    memory.remember_strong("b")
    assert memory.is_strong("a")
    memory.remember_strong("c")
    assert [key for key in "abc" if memory.is_strong(key)] == ["a", "c"]
