//! Faults between the programs and Redis under a steady load: no other answer, no count lost. tests/full runs it whole.

mod matrix;
