"""Edits of code that a network reaches; `old` and `new` of each as «old|new» in its files."""

from collections.abc import Mapping

from tests.defenses.strangers import ENDED, HELPER, STE, network

EDITS: dict[str, Mapping[str, str]] = {
    "backward of an autograd function": {"net.py": network("x = Round.apply(x)", STE)},
    "backward behind a name of its apply": {
        "net.py": network("x = ste(x)", STE + "ste = Round.apply\n")
    },
    "backward of a class that is a class attribute": {
        "net.py": network("x = self.op.apply(x)", STE).replace(
            "Net(nn.Module):", "Net(nn.Module):\n    op = Round"
        )
    },
    "helper of the same file": {"net.py": network("x = ste(x)", HELPER)},
    "helper's helper": {
        "net.py": network("x = outer(x)", HELPER + "def outer(x):\n    return ste(x)\n")
    },
    "helper of a module": {
        "net.py": network("x = helpers.ste(x)", "import helpers"),
        "helpers.py": ENDED,
    },
    "helper by from-import": {
        "net.py": network("x = ste(x)", "from helpers import ste"),
        "helpers.py": ENDED,
    },
    "helper imported in forward": {
        "net.py": network("import helpers; x = helpers.ste(x)"),
        "helpers.py": ENDED,
    },
    "name imported in forward": {
        "net.py": network("from helpers import ste; x = ste(x)"),
        "helpers.py": ENDED,
    },
    "module imported in a branch not taken": {
        "net.py": network("if len(x) > 99:\n            import helpers; x = helpers.ste(x)"),
        "helpers.py": ENDED,
    },
    "module of a package, by its full name": {
        "net.py": network("x = package.deep.ste(x)", "import package.deep"),
        "package/__init__.py": "",
        "package/deep.py": ENDED,
    },
    "second name of a package's module": {
        "net.py": network(
            "x = package.deep.one(x); x = two(x)",
            "import package.deep\ndef two(x):\n    return package.deep.ste(x)\n",
        ),
        "package/__init__.py": "",
        "package/deep.py": ENDED + "def one(x):\n    return x\n",
    },
    "package without __init__": {
        "net.py": network("x = deeper.deep.ste(x)", "import deeper.deep"),
        "deeper/deep.py": ENDED,
    },
    "relative import": {
        "net.py": "from package.model import build\n",
        "package/__init__.py": "",
        "package/model.py": network("x = ste(x)", "from .ops import ste"),
        "package/ops.py": ENDED,
    },
    "relative import in forward, two packages up": {
        "net.py": "from package.sub.model import build\n",
        "package/__init__.py": "",
        "package/sub/__init__.py": "",
        "package/sub/model.py": network("from ..ops import ste; x = ste(x)"),
        "package/ops.py": ENDED,
    },
    "nested function of a factory": {
        "net.py": network(
            "x = self.act(x)",
            "def make():\n    def act(x):\n        return x * «1.0|2.0»\n    return act\n",
            "self.act = make()",
        )
    },
    "function of a partial": {
        "net.py": network(
            "x = self.f(x)",
            "from functools import partial\ndef g(x, s):\n    return x «*|/» s\n",
            "self.f = partial(g, s=1.0)",
        )
    },
    "helper under functools.wraps": {
        "net.py": network(
            "x = ste(x)",
            "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def wrapper(x):\n"
            "        return f(x) + 0.0\n    return wrapper\n@deco\n" + HELPER,
        )
    },
    "the decorator itself": {
        "net.py": network(
            "x = ste(x)",
            "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def wrapper(x):\n"
            "        return f(x) «+|-» 0.0\n    return wrapper\n@deco\n" + HELPER,
        )
    },
    "decorator without wraps": {
        "net.py": network(
            "x = ste(x)",
            "def deco(f):\n    return lambda x: f(x)\n@deco\n" + HELPER,
        )
    },
    "helper under torch.no_grad()": {
        "net.py": network("x = ste(x)", "@torch.no_grad()\n" + HELPER)
    },
    "helper under lru_cache": {
        "net.py": network(
            "x = x * s(1)",
            "from functools import lru_cache\n@lru_cache\ndef s(n):\n    return n * «1.0|2.0»\n",
        )
    },
    "method under lru_cache": {
        "net.py": network("x = x * self.s(1)", "from functools import lru_cache").replace(
            "def forward",
            "@lru_cache\n    def s(self, n):\n        return scale(n)\n    def forward",
        )
        + "def scale(n):\n    return n * «1.0|2.0»\n"
    },
    "bound method of the user's object": {
        "net.py": network(
            "x = self.f(x)",
            "class Op:\n    def run(self, x):\n        return x * «1.0|2.0»\n",
            "self.f = Op().run",
        )
    },
    "object that is called": {
        "net.py": network(
            "x = op(x)",
            "class Op:\n    def __call__(self, x):\n        return x * «1.0|2.0»\nop = Op()\n",
        )
    },
    "base of an object's class": {
        "net.py": network(
            "x = op(x)",
            "class Base:\n    def __call__(self, x):\n        return x * «1.0|2.0»\n"
            "class Op(Base):\n    pass\nop = Op()\n",
        )
    },
    "function of a library under another name": {
        "net.py": network("x = act(x)", "act = «F.relu|F.leaky_relu»")
    },
    "mixin that is no module": {
        "net.py": network(
            "x = self.ste(x)",
            "class Mixin:\n    def ste(self, x):\n        return x * «1.0|2.0»\n",
            bases="Mixin, nn.Module",
        )
    },
    "base by super()": {
        "net.py": network(
            "x = super().forward(x)",
            "class Base(nn.Module):\n    def forward(self, x):\n        return ste(x)\n" + HELPER,
            bases="Base",
        )
    },
    "forward hook": {
        "net.py": network(
            "x = x",
            "def hook(module, args, out):\n    return out * «1.0|2.0»\n",
            "self.layer.register_forward_hook(hook)",
        )
    },
    "backward hook": {
        "net.py": network(
            "x = x",
            "def hook(module, g_in, g_out):\n    return tuple(«g|2 * g» for g in g_in)\n",
            "self.layer.register_full_backward_hook(hook)",
        )
    },
    "forward of a layer of torch, replaced": {
        "net.py": network(
            "x = x",
            "def own(x):\n    return x[:, :1].expand(-1, 4) * «1.0|2.0»\n",
            "self.layer.forward = own",
        )
    },
    "forward of the class, replaced": {
        "net.py": network(
            "x = x", "def own(self, x):\n    return self.layer(x.mean((2, 3))) * «1.0|2.0»\n"
        )
        + "Net.forward = own\n"
    },
    "method of a network in a list": {
        "net.py": network(
            "x = self.held[0](x)",
            "class Inner(nn.Module):\n    def forward(self, x):\n        return self.go(x)\n"
            "    def go(self, x):\n        return ste(x)\n" + HELPER,
            "self.held = [Inner()]",
        )
    },
    "method of a network that forward makes": {
        "net.py": network(
            "x = Inner()(x)",
            "class Inner(nn.Module):\n    def forward(self, x):\n        return self.go(x)\n"
            "    def go(self, x):\n        return ste(x)\n" + HELPER,
        )
    },
    "property": {
        "net.py": network("x = x * self.s").replace(
            "def forward",
            "@property\n    def s(self):\n        return scale()\n    def forward",
        )
        + "def scale():\n    return «1.0|2.0»\n"
    },
    "static method": {
        "net.py": network("x = self.s(x)").replace(
            "def forward",
            "@staticmethod\n    def s(x):\n        return ste(x)\n    def forward",
        )
        + HELPER
    },
    "class method": {
        "net.py": network("x = self.s(x)").replace(
            "def forward",
            "@classmethod\n    def s(cls, x):\n        return ste(x)\n    def forward",
        )
        + HELPER
    },
    "method that Python calls": {
        "net.py": network("x = x * self['s']").replace(
            "def forward",
            "def __getitem__(self, key):\n        return scale()\n    def forward",
        )
        + "def scale():\n    return «1.0|2.0»\n"
    },
    "TorchScript function": {"net.py": network("x = ste(x)", "@torch.jit.script\n" + HELPER)},
    "TorchScript network": {
        "net.py": network("x = x * «1.0|2.0»")
        + "def build():\n    return torch.jit.script(Net())\n"
    },
    "lambda": {"net.py": network("x = self.act(x)", init="self.act = lambda x: x * «1.0|2.0»")},
    "which lambda of a line": {
        "net.py": network(
            "x = self.act(x)",
            "A, B = lambda x: x * 1.0, lambda x: x * 2.0\nC = «A|B»\n",
            "self.act = C",
        )
    },
    "which of two classes of one name": {
        "net.py": network(
            "x = Round.apply(x)",
            "SMOOTH = «False|True»\nif SMOOTH:\n"
            + STE.replace("«torch.zeros_like(g)|g»", "g").replace("\n", "\n    ")
            + "\nelse:\n"
            + STE.replace("«torch.zeros_like(g)|g»", "0 * g").replace("\n", "\n    "),
        )
    },
    "operator of torch.library": {
        "net.py": network(
            "x = ste(x)",
            "@torch.library.custom_op('stranger::ste', mutates_args=())\n"
            "def ste(x: torch.Tensor) -> torch.Tensor:\n    return x * 1.0\n"
            "def back(ctx, g):\n    return g * «0.0|1.0»\nste.register_autograd(back)\n",
        )
    },
    "computed name": {
        "net.py": network("x = getattr(helpers, 's' + 'te')(x)", "import helpers"),
        "helpers.py": ENDED,
    },
    "evaluated text": {"net.py": network("x = eval('ste(x)')", HELPER)},
    "method by a computed name": {
        "net.py": network("x = getattr(self, 'og'[::-1])(x)", "from helpers import ste").replace(
            "def forward", "def go(self, x):\n        return ste(x)\n    def forward"
        ),
        "helpers.py": ENDED,
    },
    "what the factory's helper names": {
        "net.py": network("x = x")
        + "def build():\n    return make()\ndef make(«|n=1»):\n    return Net()\n"
    },
}
