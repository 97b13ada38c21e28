"""Edits of values that a network reaches; `old` and `new` of each as «old|new» in its files."""

from collections.abc import Mapping

from tests.defenses.strangers import network

EDITS: dict[str, Mapping[str, str]] = {
    "constant of a module imported in forward": {
        "net.py": network("from helpers import ste; x = ste(x)"),
        "helpers.py": "SCALE = «1.0|1»\ndef ste(x):\n    return x * SCALE\n",
    },
    "closure value": {
        "net.py": network(
            "x = self.act(x)",
            "def make(s):\n    def act(x):\n        return x * s\n    return act\n",
            "self.act = make(«1.0|2.0»)",
        )
    },
    "order of two closures of one factory": {
        "net.py": network(
            "x = self.a(self.b(x))",
            "def make(s):\n    def act(x):\n        return x * s + 1\n    return act\n"
            "A, B = «make(1.0), make(2.0)|make(2.0), make(1.0)»\n",
            "self.a, self.b = A, B",
        )
    },
    "default argument, computed": {
        "net.py": network("x = f(x)", "S = «1.0|1.5»\ndef f(x, s=S * 2):\n    return x * s\n")
    },
    "keyword default, computed": {
        "net.py": network("x = f(x)", "S = «1.0|1.5»\ndef f(x, *, s=S * 2):\n    return x * s\n")
    },
    "argument of a partial": {
        "net.py": network(
            "x = f(x)",
            "from functools import partial\n"
            "def g(x, s):\n    return x * s\nf = partial(g, s=«1.0|1.5»)",
        )
    },
    "what a bound method's object holds": {
        "net.py": network(
            "x = f(x)",
            "class Op:\n    def __init__(self, s):\n        self.s = s\n"
            "    def run(self, x):\n        return x * self.s\nf = Op(«1.0|2.0»).run\n",
        )
    },
    "what a decorator's object holds": {
        "net.py": network(
            "x = ste(x)",
            "from functools import update_wrapper\nclass Scaled:\n    def __init__(self, f, s):\n"
            "        update_wrapper(self, f)\n        self.f, self.s = f, s\n"
            "    def __call__(self, x):\n        return self.f(x) * self.s\n"
            "S = «1.0|2.0»\n@lambda f: Scaled(f, S)\ndef ste(x):\n    return x\n",
        )
    },
    "slots": {
        "net.py": network(
            "x = x * op.s",
            "class Op:\n    __slots__ = 's'\n    def __init__(self, s):\n        self.s = s\n"
            "op = Op(«1.0|2.0»)\n",
        )
    },
    "dataclass": {
        "net.py": network(
            "x = x * self.cfg.s",
            "from dataclasses import dataclass\n"
            "@dataclass\nclass Cfg:\n    s: float\nCFG = Cfg(«1.0|2.0»)",
            "self.cfg = CFG",
        )
    },
    "named tuple": {
        "net.py": network(
            "x = x * CFG.s",
            "from typing import NamedTuple\n"
            "class Cfg(NamedTuple):\n    s: float\nCFG = Cfg(«1.0|2.0»)",
        )
    },
    "method of a subclass of dict": {
        "net.py": network(
            "x = CFG.run(x)",
            "class Cfg(dict):\n    def run(self, x):\n        return x * «1.0|2.0»\nCFG = Cfg()",
        )
    },
    "argparse.Namespace": {
        "net.py": network(
            "x = x * args.s", "from argparse import Namespace\nargs = Namespace(s=«1.0|2.0»)"
        )
    },
    "bool attribute": {"net.py": network("x = x", "B = «True|1»", "self.b = B")},
    "int attribute": {"net.py": network("x = x", "B = «1|2»", "self.b = B")},
    "float attribute": {"net.py": network("x = x", "B = «.1|.2»", "self.b = B")},
    "str attribute": {"net.py": network("x = x", "B = «'a'|'b'»", "self.b = B")},
    "None attribute": {"net.py": network("x = x", "B = «None|0»", "self.b = B")},
    "list attribute": {"net.py": network("x = x", "B = «[1, 2]|[2, 1]»", "self.b = B")},
    "dict attribute": {"net.py": network("x = x", "B = {'a': {'b': «1|2»}}", "self.b = B")},
    "order of a dict": {
        "net.py": network("x = x", "B = {«'a': 1, 'b': 2|'b': 2, 'a': 1»}", "self.b = B")
    },
    "dict with tuples as keys": {
        "net.py": network("x = x", "B = {(0, 1): «1|2», (1, 0): 2}", "self.b = B")
    },
    "set attribute": {"net.py": network("x = x", "B = {«'a'|'b'»}", "self.b = B")},
    "tensor attribute": {
        "net.py": network("x = x * self.b", "B = «1.0|2.0»", "self.b = torch.full((1,), B)")
    },
    "array attribute": {
        "net.py": network("x = x", "import numpy as np\nB = «1.0|2.0»", "self.b = np.full(1, B)")
    },
    "function of a library that is an attribute": {
        "net.py": network("x = self.act(x)", "ACT = «torch.relu|torch.abs»", "self.act = ACT")
    },
    "which of two functions an attribute is": {
        "net.py": network(
            "x = self.act(x) + 0 * a(x) + 0 * b(x)",
            "def a(x):\n    return x\ndef b(x):\n    return x * 1.0\nACT = «a|b»\n",
            "self.act = ACT",
        )
    },
    "order of a list of its modules": {
        "net.py": network(
            "x = x",
            "ORDER = «1|-1»",
            "self.other = nn.Identity()\n        self.order = [self.layer, self.other][::ORDER]",
        )
    },
    "module constant": {"net.py": network("x = x * SCALE", "SCALE = «1.0|2.0»")},
    "constant of another module": {
        "net.py": network("x = x * helpers.S", "import helpers"),
        "helpers.py": "S = «1.0|2.0»",
    },
    "hook's closure": {
        "net.py": network(
            "x = x",
            "def make(s):\n    return lambda module, args: (args[0] * s,)\n"
            "HOOK = make(«1.0|2.0»)\n",
            "self.layer.register_forward_pre_hook(HOOK)",
        )
    },
    "network in a plain list": {
        "net.py": network(
            "x = self.held[0](x)", "P = «1|0»", "self.held = [nn.AvgPool2d(3, padding=P, stride=1)]"
        )
    },
    "weights of a network in a closure": {
        "net.py": network(
            "x = self.act(x)",
            "W = «1.0|2.0»\ndef make():\n    inner = nn.Conv2d(3, 3, 1)\n"
            "    for p in inner.parameters():\n        nn.init.constant_(p, W)\n"
            "    return lambda x: inner(x)\n",
            "self.act = make()",
        )
    },
    "class attribute": {
        "net.py": network("x = x * self.s").replace("def forward", "s = «1.0|2.0»\n    def forward")
    },
    "class attribute, computed": {
        "net.py": network("x = x * self.s", "S = «1.0|2.0»").replace(
            "def forward", "s = S\n    def forward"
        )
    },
    "traced graph": {
        "net.py": network("x = x * SCALE", "import torch.fx\nSCALE = «1.0|2.0»")
        + "def build():\n    return torch.fx.symbolic_trace(Net())\n"
    },
    "object of the user's in an object of a library": {
        "net.py": network(
            "x = self.pre.data[0](x)",
            "from collections import UserList\nclass Op:\n"
            "    def __init__(self, s):\n        self.s = s\n"
            "    def __call__(self, x):\n        return x * self.s\nOP = Op(«1.0|2.0»)\n",
            "self.pre = UserList([OP])",
        )
    },
}
