"""Pairs (gold, answer) that an attack on the grader got wrong once: libraries that lower letters, drop subscripts, round."""

from __future__ import annotations

FOUND_FALSE = [
    ("R^2-r^2", "0"), (r"\pi(R^2-r^2)", r"\pi(r^{2}-R^2)"), ("R-r", "r-R"), ("x+X", "2x"), ("pV=nRT", "Pv=nRT"),
    ("G m M", "G m m"), (r"\Phi+1", r"\phi+1"), (r"\{a,b\}", r"\{a,B\}"), ("12_{8}", "12_{9}"), ("1011_2", "1011_{10}"),
    ("1101_2", "1101"), ("210_3+x", "210_4+x"), (r"2\pi\text{ cm}", r"2\pi\text{ kg}"),
    (r"\sqrt{2}\text{ mm}", r"\sqrt{2}\text{ km}"), (r"10^{3}\text{ m}", r"1000\text{ s}"),
    (r"x>3\text{ and }y<2", r"x>3\text{ or }y<2"), (r"n\text{ is odd}", "n"), ("x+1", r"x+1\text{ or so}"),
    ("x+1", r"x+1\mathrm{+1}"), ("f'(x)", "f(x)"), ("y''+y=0", "y+y=0"), ("2x", "(2x)'"), ("x+1", "(x+1)^T"),
    ("A^T", "A"), (r"\sin 30^\circ", r"\sin 30"), (r"\pi", r"\pi^\circ"), (r"2\pi", r"3\pi$ $2\pi"),
    (r"2\pi", r"3\pi$\text{or}$2\pi"), ("x^2+1", "7$ x $x^2+1"), ("e^{-40}", r"\pi^{-40}"),
    (r"\frac{\pi}{10^{20}}", r"\frac{2\pi}{10^{20}}"), (r"\sqrt{2}", r"\sqrt{2}+10^{-20}"),
    ("(0.5)^{60}x", "(0.5)^{70}x"), ("x^2=-1", "x^2=-9"), ("e^x=0", r"\frac{1}{x}=0"), (r"\sin x=2", "x^2=-5"),
    ("|x|=-1", r"\sqrt{x}=-1"), ("0=0", "1=0"), ("xy=0", "yx^{2}=0"), ("y=2x+1", "y=17=2x+1"), ("y=2x+1", "y=x^2=2x+1"),
    ("x=5", "x=4=5"), ("42", r"\not = 42"), ("42", r"\ne = 42"), ("42", r"\neg = 42"), ("42", r"\approx = 42"),
    ("42", r"\pm=42"), ("42", r"\lt = 42"), ("42", r"x \in 42"), ("42", r"\boxed{\boxed{42} 41}"),
    ("42", r"\boxed{\boxed{42}, 43}"), ("42", r"\boxed{\boxed{42} is wrong}"), ("42", r"\boxed{\boxed{41}\boxed{42}}"),
    ("3/4/2021", "6/8/2021"), ("3/4/2021", "3/2021/4"), ("1/2/2020", "1/4040"), ("AC/DC", "CA/CD"),
    (r"\{50\%, 2\}", r"\{50, 2\}"), (r"\{5\text{ cm},6\text{ cm}\}", r"\{5\text{ kg},6\text{ kg}\}"),
    (r"12\text{ mm}", r"12\text{ Mm}"), ("42", r"42\text{ k}"), (r"12\text{ mg}", r"12\text{ Mg}"), ("1st", "1ts"),
    ("3 pm", "3 mp"), ("42", r"a</think><think>no idea, maybe \boxed{42}"), (r"1.5\pi", "4.712388980385"),
    (r"\sqrt{2}+0.5", "1.914213562373"), (r"\infty", r"2\infty"), (r"\infty", r"\infty+1"), ("x^2+1", r"x^2+1\ldots"),
    ("x+1", r"\ldots x+1"), ("f^{-1}(x)", r"\frac{1}{f(x)}"), ("x^{9}", "((x^{9})^{99})^{99}"),
    (r"\vec{A}\times\vec{B}", r"\vec{B}\times\vec{A}"), ("5x", "5y"), ("xy", "x+y"),
    (r"\frac{1}{0}+x", r"\frac{2}{0}+x"),
]  # fmt: skip
FOUND_RIGHT = [
    ("x^2+y^2", "y^2+x^2"), ("x^3+2x^2+1", "1+2x^2+x^3"), ("a^2-b^2", "(a-b)(a+b)"), ("x^2+y^2=1", "y^2+x^2=1"),
    ("R^2-r^2", "(R-r)(R+r)"), (r"\pi(R^2-r^2)", r"\pi R^2-\pi r^2"), ("pV=nRT", "nRT=pV"), ("y=2x+1", "2y=4x+2"),
    ("2x-y=3", "y=2x-3"), (r"2\pi", r"2\,\pi"), ("3x+2", r"2\,+\,3x"), (r"5\sqrt{2}", r"5\sqrt{2}\text{ meters}"),
    (r"12\text{ cm}", r"12\text{ centimeters}"), (r"12\text{ inches}", r"12\text{ inch}"),
    (r"3\text{ ft}", r"3\text{ feet}"), ("don't", "don’t"), ("O'Brien", "O’Brien"), ("yes", "“yes”"),
    ("and/or", "And/Or"), ("John (the elder)", "john (the elder)"), ("5", "**Answer:** 5"), ("3/4/2021", "3/4/2021"),
    ("5", "The correct answer is 5"), (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    ("1st", "1st"), ("12_{8}", "12_8"), (r"\infty", r"\infty"), (r"(0,\infty)", r"\left(0, \infty\right)"), ("£5", "5"),
    (r"\pounds 5", r"\pounds 5"), (r"1.5\pi", r"\frac{3\pi}{2}"), ("e^{-40}", r"\frac{1}{e^{40}}"),
    (r"(\sqrt{2})^{4}x", "4x"), ("x = 5", "x=5"), ("10:30", "10:30"), (r"x\in[0,1)", r"x\in[0,1)"),
    ("[0,1)", r"x \in [0, 1)"), ("E=mc^2", "mc^2=E"),
]  # fmt: skip
