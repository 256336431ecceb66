"""What a statement is and does. `readings` tells what its words alone say, once and kept with its step; `canonical` has the server write it in one line,
and `shapes` reads that; `effects` follows the objects that statements make.
"""
