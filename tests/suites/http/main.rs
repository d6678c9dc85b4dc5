//! What clients get: requests over HTTP/1, TLS and HTTP/2, through proxies, and what is told of them.

mod bad_requests;
mod corpus;
mod h2;
mod h2_abuse;
mod h2_floods;
mod openssl;
mod proxies_and_logs;
mod reports;
mod static_files;
mod tls;
