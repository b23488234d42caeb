"""Side-by-side measurements: this project beside its peers, on the same weights, in one run.

    make bench      mistral-edu bench --model small229 --dtype float32,bfloat16

Lesson: 14_the_full_7b.

    sizes      the models, by name, and their weights         costs     bytes and operations a token
    peers      who takes part, and who cannot and why         ceilings  what the machine can do
    timing     turns, warm-ups, medians, the noise            memory    bytes really held
    agreement  the same logits, before anything is timed      loading   a fresh process
    run        all of it in order                             report    table and figure

Conventions
    Every peer is loaded from the same folder in its own usual way, and is given the same ids.
    A figure is a median over blocks, with the least and the greatest beside it. Peers take turns
    block by block, so that what disturbs the machine disturbs all of them.
    Limits are measured in the same run: a share of a limit of another day says nothing.
"""
