//! The store by its own verbs, under its own users, lost, damaged and restored.

mod acl;
mod contract;
mod damage;
mod outage;
mod redis_links;
mod restored;
