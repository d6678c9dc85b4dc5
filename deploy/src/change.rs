//! A change of what the cluster serves: what is in force, what would change, whether it is safe, putting it in force.
//! No command line may enter here.

pub mod current;
pub mod diff;
pub mod guard;
pub mod publish;
pub mod put_in_force;
