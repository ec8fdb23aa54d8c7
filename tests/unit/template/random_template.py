"""Random templates: expressions of every kind that we support, mostly of fitting types, inside
statements with random white-space control."""
import random

VARIABLES = {
    "n": 7, "m": -3, "zero": 0, "big": 4611686018427387904, "f": 2.5, "g": -0.125, "h": 1e20,
    "s": "Hello World", "t": "  Ünïcödé — ςΣ ΑΣ straße \t", "empty": "",
    "q": "it's \"quoted\" \\ <b>&",
    "lines": "a\nb\r\n\nc d\n", "yes": True, "no": False, "nil": None,
    "nums": [3, 1, 2, 10, -4], "words": ["pear", "Apple", "fig", "apple", ""], "none_list": [],
    "mixed": [1, "a", None, True, 2.5, [1, 2], {"k": "v"}],
    "d": {"b": 1, "A": "x", "c": [1, 2, 3], "items": 5}, "none_dict": {},
    "users": [{"name": "Bo", "age": 30, "tags": ["x"]}, {"name": "al", "age": 25, "tags": []},
              {"name": "Cy", "age": 30}],
    "nested": {"a": {"b": [{"c": "deep"}]}},
}
BY_TYPE = {
    "int": ["n", "m", "zero", "1", "0", "-2", "12", "3", "big", "0x1F", "1_000", "true"],
    "float": ["f", "g", "h", "1.5", "0.1", "1e3", "2.0", "1e-7", "3.14159"],
    "str": ["s", "t", "empty", "q", "lines", "'abc'", "\"x\\ny\"", "'é\\u00e9\\x41'", "'a' 'b'",
            "'l'",
            "''", "' '", "'%s-%d'", "'\\t \\\\ \\''"],
    "bool": ["yes", "no", "true", "false", "True"],
    "list": ["nums", "words", "none_list", "mixed", "[1, 2, 3]", "['a', 'B']", "(1, 'x')", "users",
             "[]",
             "[[1, 'z'], [2, 'y']]", "range(5)", "d.c"],
    "dict": ["d", "none_dict", "{'a': 1, 'z': [2]}", "users[0]", "nested.a", "{1: 'one', true: 2}",
             "dict(x=1, y='q')"],
    "none": ["nil", "none", "None"],
    "undef": ["missing", "d.missing", "users[9]", "nested.a.zz"],
}
TYPES = list(BY_TYPE)
STR_METHODS = ["strip()", "lstrip()", "rstrip()", "upper()", "lower()", "title()", "capitalize()",
               "split()", "split(' ')", "split('l', 1)", "rsplit('l', 1)", "rsplit(None, 1)",
               "splitlines()",
               "splitlines(true)", "replace('l', 'LL')", "replace('', '-')", "replace('a', '', 1)",
               "startswith('He')", "endswith('d')", "startswith(('x', 'H'))", "find('o')",
               "rfind('o')",
               "find('l', 3)", "count('l')", "count('')", "strip(' \\tH')", "lstrip('Hel')",
               "rstrip('d')",
               "join(['x', 'y'])", "join(words)", "partition(' ')", "rpartition('o')", "isdigit()",
               "isspace()", "isupper()", "islower()", "center(20, '*')", "ljust(12)",
               "rjust(12, '.')",
               "swapcase()", "removeprefix('He')", "removesuffix('ld')", "find('zz')",
               "startswith('e', 1)",
               "endswith('o', 0, 5)", "isalpha()", "isalnum()"]
ANY_FILTERS = ["string", "default('dflt')", "d('x', true)", "tojson", "length", "list", "first",
               "last",
               "upper", "lower", "title", "capitalize", "trim", "int", "float", "int(5)",
               "float(1.5)",
               "join", "join(', ')", "reverse", "sort", "abs", "round", "e", "escape", "safe",
               "count",
               "tojson(indent=2)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))",
               "tojson(ensure_ascii=true)", "replace('a', 'b')", "forceescape", "items", "max",
               "min"]
TYPED_FILTERS = {
    "str": ["indent", "indent(2)", "indent(2, true)", "indent('> ', true, true)", "trim('H d')",
            "wordcount", "center(15)", "truncate(5, true)", "truncate(6)", "replace('l', 'L', 1)",
            "list",
            "int(base=16)", "format(1, 2)", "truncate(9, false, '!', 0)", "title", "reverse"],
    "list": ["sort(reverse=true)", "unique", "sum", "min", "max", "batch(2)", "batch(2, 'z')",
             "slice(2)",
             "map('string')", "map('upper')", "select", "reject", "select('string')",
             "reject('none')",
             "select('odd')", "map('int')", "join('-')", "sort(case_sensitive=true)",
             "select('in', [1, 'a'])",
             "map(attribute='name')", "map(attribute='age', default=0)", "selectattr('age')",
             "selectattr('age', 'equalto', 30)", "rejectattr('tags')", "map(attribute=0)",
             "sort(attribute='name')", "sort(attribute='age,name')", "sum(attribute='age')",
             "join(', ', attribute='name')", "unique(attribute='age')", "map('length')",
             "rejectattr('age', 'gt', 26)", "max(attribute='age')", "map('tojson')",
             "map('default', 'q')"],
    "dict": ["dictsort", "dictsort(true)", "dictsort(false, 'value')", "dictsort(reverse=true)",
             "items",
             "tojson(indent=4)", "tojson(indent='..')"],
    "int": ["abs", "round", "round(-1)", "round(1, 'floor')", "float", "string", "round(1)"],
    "float": ["round(1)", "round(2)", "round(0, 'ceil')", "round(2, 'floor')", "int", "abs",
              "round(-1)"],
}
LAZY = ("unique", "batch", "slice", "map", "select", "reject", "items", "reverse")
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "iterable", "sequence",
         "boolean",
         "true", "false", "integer", "float", "even", "odd", "upper", "lower", "callable",
         "escaped",
         "divisibleby 3", "equalto 7", "eq 'a'", "ne 7", "in [1, 2, 'a']", "sameas true", "gt 2",
         "lt 2",
         "ge 7", "le 7", "divisibleby(2)", "not none", "not string", "not in nums", "greaterthan 1"]
SLICES = ["[1:]", "[:2]", "[::-1]", "[-2:]", "[1:-1]", "[::2]", "[5:1:-2]", "[:0]", "[3:1]",
          "[-1::-1]",
          "[100:]", "[:100]", "[-100:2]", "[::-3]", "[::3]"]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.locals = []

    def pick(self, *options):
        return self.r.choice(options)

    def leaf(self, kind):
        if self.locals and self.r.random() < 0.2:
            return self.r.choice(self.locals)
        return self.r.choice(BY_TYPE[kind])

    def some(self, depth):
        weights = [5, 3, 7, 3, 6, 4, 1, 1]
        return self.expr(self.r.choices(TYPES, weights)[0], depth)

    def expr(self, kind, depth):
        """An expression that is probably of this kind, in parentheses where it needs them."""
        if depth <= 0 or self.r.random() < 0.15:
            return self.leaf(kind)
        return getattr(self, "expr_" + kind, self.leaf_of(kind))(depth - 1)

    def leaf_of(self, kind):
        return lambda depth: self.leaf(kind)

    def number(self, d):
        return self.expr(self.pick("int", "int", "float"), d)

    def expr_int(self, d):
        r = self.r.random()
        if r < 0.45:
            op = self.pick("+", "-", "*", "//", "%", "+", "-")
            return f"({self.number(d)} {op} {self.number(d)})"
        if r < 0.5:
            return f"({self.pick('2', '3', 'n')} ** {self.pick('2', '3', '0', 'f', 'm')})"
        if r < 0.65:
            return f"({self.expr(self.pick('str', 'list', 'dict'), d)}|length)"
        if r < 0.75:
            return f"({self.pick('-', '+')}{self.number(d)})"
        if r < 0.85:
            return f"({self.number(d)}|{self.r.choice(TYPED_FILTERS['int'])})"
        return self.conditional("int", d)

    def expr_float(self, d):
        r = self.r.random()
        if r < 0.5:
            return f"({self.number(d)} / {self.number(d)})"
        if r < 0.7:
            op = self.pick("+", "-", "*", "%", "//")
            return f"({self.number(d)} {op} {self.expr('float', d)})"
        return f"({self.expr('float', d)}|{self.r.choice(TYPED_FILTERS['float'])})"

    def expr_str(self, d):
        r = self.r.random()
        if r < 0.2:
            return f"({self.expr('str', d)} + {self.expr('str', d)})"
        if r < 0.4:
            return f"({self.some(d)} ~ {self.some(d)})"
        if r < 0.55:
            return f"{self.expr('str', d)}.{self.r.choice(STR_METHODS)}"
        if r < 0.65:
            return f"({self.some(d)}|{self.r.choice(ANY_FILTERS)})"
        if r < 0.75:
            return f"({self.expr('str', d)}|{self.r.choice(TYPED_FILTERS['str'])})"
        if r < 0.85:
            return self.expr("str", d) + self.r.choice(SLICES + ["[0]", "[-1]", "[99]", "[n]"])
        if r < 0.9:
            return f"({self.expr('str', d)} * {self.pick('0', '2', '3', 'true')})"
        if r < 0.95:
            return self.pick("('%s|%5d|%-6s|%05.1f' % (s, n, 'ab', f))", "('%s' % words)",
                             "('%r %s' % (q, nil))",
                             "('%(b)s %(A)5s' % d)", "('%x %X %o %#x' % (n, 255, 8, 255))",
                             "('%e %g' % (f, g))",
                             "('%d%%' % n)", "('%+d % d %s' % (n, n, yes))", "('%.2s' % s)",
                             "('%c' % 'a')")
        return self.conditional("str", d)

    def expr_list(self, d):
        r = self.r.random()
        if r < 0.2:
            return f"({self.expr('list', d)} + {self.expr('list', d)})"
        if r < 0.4:
            return self.expr("list", d) + self.r.choice(SLICES)
        if r < 0.65:
            name = self.r.choice(TYPED_FILTERS["list"])
            text = f"({self.expr('list', d)}|{name})"
            return f"({text}|list)" if name.startswith(LAZY) else text
        if r < 0.75:
            return f"({self.expr('dict', d)}.{self.pick('items', 'keys', 'values')}()|list)"
        if r < 0.9:
            return "[" + ", ".join(self.some(d) for _ in range(self.r.randrange(4))) + "]"
        if r < 0.95:
            return f"{self.expr('str', d)}.split({self.pick('', chr(39) + ' ' + chr(39))})"
        return self.conditional("list", d)

    def expr_dict(self, d):
        r = self.r.random()
        if r < 0.5:
            keys = self.r.sample(["'k'", "'Z'", "1", "n", "s", "none", "2.5", "yes", "(1, 2)"],
                                 self.r.randrange(4))
            return "{" + ", ".join(f"{k}: {self.some(d)}" for k in keys) + "}"
        if r < 0.7:
            return f"dict({self.expr('dict', d)}, a={self.some(d)})"
        return self.conditional("dict", d)

    def expr_bool(self, d):
        r = self.r.random()
        if r < 0.2:
            return f"({self.some(d)} {self.pick('==', '!=')} {self.some(d)})"
        if r < 0.35:
            kind = self.pick("int", "str", "float", "list")
            return f"({self.expr(kind, d)} {self.pick('<', '<=', '>', '>=')} {self.expr(kind, d)})"
        if r < 0.4:
            return f"({self.number(d)} < {self.number(d)} <= {self.number(d)})"
        if r < 0.55:
            return f"({self.some(d)} {self.pick('and', 'or')} {self.some(d)})"
        if r < 0.6:
            return f"(not {self.some(d)})"
        if r < 0.75:
            op, where = self.pick("in", "not in"), self.pick("list", "dict")
            return f"({self.some(d)} {op} {self.expr(where, d)})"
        if r < 0.8:
            return f"({self.expr('str', d)} in {self.expr('str', d)})"
        return f"({self.some(d)} is {self.r.choice(TESTS)})"

    def expr_none(self, d):
        return self.pick("none", "d.get('zz')", "d.get('b')", "d.get('zz', 3)", "nil")

    def expr_undef(self, d):
        return self.pick("missing", f"({self.expr('dict', d)}).nope", f"{self.expr('list', d)}[77]",
                         "('x' if no)", "(none_list|first)", "users[0].age", "d['items']", "d.b",
                         f"{self.expr('list', d)}[{self.expr('int', d)}]")

    def conditional(self, kind, d):
        return f"({self.expr(kind, d)} if {self.expr('bool', d)} else {self.expr(kind, d)})"

    # ---- statements ----

    def open(self):
        return "{%" + self.pick("", "", "-", "+", "-")

    def close(self):
        return self.pick("", "", "-", "+", "-") + "%}"

    def tag(self, text):
        return f"{self.open()} {text} {self.close()}"

    def text(self):
        return "".join(self.r.choice(["a", " ", "\n", "  \n", "\t", "b c", "é", "", "\n  ", "}",
                                      "{ ", "%", "# "])
                       for _ in range(self.r.randrange(4)))

    def block(self, depth, loops):
        return "".join(self.text() + self.statement(depth,
                                                    loops) for _ in range(self.r.randrange(1, 3))) \
            + self.text()

    def statement(self, depth, loops):
        r = self.r.random()
        if depth <= 0 or r < 0.45:
            return "{{" + self.pick("", "-") + f" {self.some(self.r.randrange(1, 4))} " + \
                self.pick("", "-") + "}}"
        if r < 0.55:
            return self.for_loop(depth - 1, loops)
        if r < 0.65:
            out = self.tag(f"if {self.expr('bool', 2)}") + self.block(depth - 1, loops)
            if self.r.random() < 0.4:
                out += self.tag(f"elif {self.some(2)}") + self.block(depth - 1, loops)
            if self.r.random() < 0.6:
                out += self.tag("else") + self.block(depth - 1, loops)
            return out + self.tag("endif")
        if r < 0.73:
            return self.assignment(depth - 1, loops)
        if r < 0.78:
            return self.macro(depth - 1)
        if r < 0.82:
            return "{#" + self.pick("", "-", "+") + self.text() + self.pick("", "-", "+") + "#}"
        if r < 0.85:
            return self.open() + " raw " + self.pick("", "-") + "%}" + self.text() + "{{ x }}" + \
                self.tag("endraw")
        if r < 0.88:
            return self.tag("filter " + self.pick("upper", "trim", "replace('a', 'b')|title",
                                                  "indent(2)")) \
                + self.block(depth - 1, loops) + self.tag("endfilter")
        if r < 0.91:
            return self.tag(f"with w = {self.some(2)}, v = {self.some(1)}") + "{{ w }}" + \
                self.block(depth - 1, loops) + self.tag("endwith")
        if r < 0.94:
            return self.tag("generation") + self.block(depth - 1, 0) + self.tag("endgeneration")
        if r < 0.97 and loops:
            return self.tag(f"if {self.expr('bool', 1)}") + self.tag(self.pick("break",
                                                                               "continue")) + \
                self.tag("endif")
        return self.tag("set ns = namespace(a=1, b='x')") + \
            self.tag(f"set ns.a = {self.some(2)}") + "{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns }}"

    def for_loop(self, depth, loops):
        name = self.pick("i", "x", "row")
        target, items = name, self.expr(self.pick("list", "list", "dict", "str"), 2)
        if self.r.random() < 0.2:
            target, items = "k, " + name, f"{self.expr('dict', 1)}.items()"
        test = ""
        if self.r.random() < 0.25:
            test = f" if {name} {self.pick('is defined', '!= 2', 'is string', '')}"
        self.locals.append(name)
        body = self.block(depth, loops + 1)
        body += self.pick("", "{{ loop.index }}/{{ loop.length }} ",
                          "{{ loop.first }}{{ loop.last }}",
                          "{{ loop.revindex }}{{ loop.revindex0 }}",
                          "{{ loop.previtem }}|{{ loop.nextitem }}",
                          "{{ loop.cycle('a', 'b', 3) }}", "{{ loop.changed(loop.index0 // 2) }}",
                          "{{ loop }}",
                          "{{ loop.index0 }}", "{{ loop.depth }}",
                          "{% set acc = acc ~ 'x' %}{{ acc }}")
        self.locals.pop()
        out = self.tag(f"for {target} in {items}{test}") + body
        if self.r.random() < 0.3:
            out += self.tag("else") + self.block(depth, loops)
        return out + self.tag("endfor")

    def assignment(self, depth, loops):
        name = self.pick("u", "acc", "n", "s")
        r = self.r.random()
        if r < 0.6:
            out = self.tag(f"set {name} = {self.some(3)}")
        elif r < 0.75:
            out = self.tag(f"set {name}, other = {self.some(1)}, {self.some(1)}") + "{{ other }}"
        else:
            out = self.tag(f"set {name}" + self.pick("", " | upper", " | trim | length")) + \
                self.block(depth, loops) + self.tag("endset")
        return out + "{{ " + name + " }}"

    def macro(self, depth):
        name = self.pick("mac", "fmt")
        self.locals.append("p")
        body = self.block(depth, 0)
        self.locals.pop()
        extra = self.pick("", "{{ kwargs }}", "{{ varargs }}", "{{ q2 }}",
                          "{{ caller() if caller }}")
        out = self.tag(f"macro {name}(p, q2={self.some(1)})") + body + extra + self.tag("endmacro")
        call = self.pick(f"{name}({self.some(1)})", f"{name}(p={self.some(1)})", f"{name}(1, 2)",
                         f"{name}()",
                         f"{name}(1, q2=3)", f"{name}(1, 2, 3)", f"{name}(1, z=3)",
                         f"{name}(*[1, 2])",
                         f"{name}(**{{'p': 5}})")
        if self.r.random() < 0.2:
            return out + self.tag(f"call {name}(1)") + "inner" + self.tag("endcall")
        return out + "{{ " + call + " }}"

    def template(self):
        self.locals = []
        return self.block(2, 0)
