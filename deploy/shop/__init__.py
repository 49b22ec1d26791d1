"""A simulated shop with planted truths: its people, goods, scenes, visits and reactions, all from one seed."""
