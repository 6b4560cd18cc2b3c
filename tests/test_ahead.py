"""Reading ahead: the loop finds its pictures ready, in order, whatever it asks for."""

import threading
import time

import pytest
from avatar_scene import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.avatar.data.ahead import Ahead
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.loop import Trainer
from pipeline.errors import DataError
from pipeline.settings.architecture import Architecture
from pipeline.settings.recipe import Recipe


@settings(max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 3), st.integers(1, 3))
def test_any_order_gives_what_was_asked_for(asked, depth, threads):
    ahead = Ahead(lambda n: n * n, 10, depth, threads)
    assert [ahead.take(n) for n in asked] == [n * n for n in asked]
    ahead.close()


def test_nothing_is_made_twice_or_beyond_the_end():
    made = []
    ahead = Ahead(lambda n: made.append(n) or n, 5, depth=3, threads=2)
    assert [ahead.take(n) for n in range(5)] == list(range(5))
    ahead.close()
    assert sorted(made) == list(range(5))


def test_an_error_is_raised_where_the_value_is_asked_for():
    def make(n: int) -> int:
        if n == 2:
            raise DataError("step 2")
        return n

    ahead = Ahead(make, 5, depth=2, threads=1)
    assert [ahead.take(n) for n in range(2)] == [0, 1]
    with pytest.raises(DataError, match="step 2"):
        ahead.take(2)
    ahead.close()


def test_a_training_reads_the_next_step_while_it_computes_this_one(pictures, monkeypatch):
    """Every step computes until the next one has its pictures, which without reading ahead never comes."""

    def steps_read_while_computing(read_ahead: int, patience: float) -> list[bool]:
        recipe = Recipe(
            batch=2, texture_steps=6, steps=0, crop_height=8, crop_width=8, read_ahead=read_ahead, readers=1
        )
        trainer = Trainer(Avatar(Architecture(**TINY), code_size=4), pictures, recipe)
        batch, roughness, arrived, found = pictures.batch, trainer._roughness, threading.Semaphore(0), []

        def slowly(*asked):
            time.sleep(0.05)
            read = batch(*asked)
            arrived.release()
            return read

        def computing(part):
            if not found:
                arrived.acquire()  # the first step's own
            found.append(arrived.acquire(timeout=patience))
            return roughness(part)

        with monkeypatch.context() as patch:
            patch.setattr(pictures, "batch", slowly)
            patch.setattr(trainer, "_roughness", computing)
            for step in range(5):
                trainer.train_step()
                assert trainer.step == step + 1
            trainer.close()
        return found

    assert steps_read_while_computing(4, patience=30) == [True] * 5
    assert not steps_read_while_computing(0, patience=0.2)[0]
