//! Tests of [`super`].

use super::*;
use std::fs;

struct Made {
    folder: tempfile::TempDir,
    pairs: Vec<Pair>,
}

/// One pair for each list of names.
fn made(names: &[&[&str]]) -> Made {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = |(index, names): (usize, &&[&str])| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let (certificate, key) = (
            folder.path().join(format!("{index}.pem")),
            folder.path().join(format!("{index}.key")),
        );
        fs::write(&certificate, made.cert.pem()).expect("written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        Pair { certificate, key }
    };
    let pairs = names.iter().enumerate().map(pair).collect();
    Made { folder, pairs }
}

#[test]
fn the_host_named_chooses() {
    let made = made(&[&["default.org"], &["a.org", "*.b.org"], &["x.b.org"]]);
    let certificates = Certificates::read(&made.pairs).expect("good");
    let index = |host: Option<&str>| {
        let key = certificates.choose(host).expect("one is always chosen");
        certificates
            .loaded
            .iter()
            .position(|held| Arc::ptr_eq(&held.key, &key))
    };
    for (host, expected) in [
        (None, 0),
        (Some("other.org"), 0),
        (Some("A.org"), 1),
        (Some("y.b.org"), 1),
        (Some("x.b.org"), 2),
        (Some("z.y.b.org"), 0),
    ] {
        assert_eq!(index(host), Some(expected), "{host:?}");
    }
    assert_eq!(certificates.expiries.len(), 3);
}

#[test]
fn a_pair_that_is_no_good_keeps_its_certificate_and_the_others_renew() {
    let [made, new] = [(); 2].map(|()| made(&[&["a.org"], &["b.org"]]));
    let old = Certificates::read(&made.pairs).expect("good");
    assert!(matches!(old.again(&made.pairs), (None, problems) if problems.is_empty()));
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to).expect("copied");
    };
    let shown = |certificates: &Certificates, host| {
        certificates.choose(Some(host)).map(|key| key.cert.clone())
    };
    // Of the first the certificate alone, of the second both files.
    copy(&new.pairs[0].certificate, &made.pairs[0].certificate);
    copy(&new.pairs[1].certificate, &made.pairs[1].certificate);
    copy(&new.pairs[1].key, &made.pairs[1].key);
    let (half, problems) = old.again(&made.pairs);
    let half = half.expect("the second is new");
    assert!(
        problems.len() == 1 && problems[0].0 == made.pairs[0].key,
        "{problems:?}"
    );
    assert_eq!(
        (
            shown(&half, "a.org") == shown(&old, "a.org"),
            shown(&half, "b.org") == shown(&old, "b.org")
        ),
        (true, false)
    );
    assert!(matches!(half.again(&made.pairs), (None, problems) if problems.len() == 1));
    copy(&new.pairs[0].key, &made.pairs[0].key);
    let (whole, problems) = half.again(&made.pairs);
    assert!(
        problems.is_empty()
            && shown(&whole.expect("the first is new"), "a.org") != shown(&old, "a.org")
    );
}

#[test]
fn bad_pairs_are_named_with_a_remedy() {
    let made = made(&[&["a.org"], &["b.org"]]);
    let [first, second] = [&made.pairs[0], &made.pairs[1]];
    let words = |certificate: &Path, key: &Path| {
        let problems = Certificates::read(&[Pair {
            certificate: certificate.into(),
            key: key.into(),
        }])
        .expect_err("a bad pair");
        format!("{}: {}", problems[0].0.display(), problems[0].1)
    };
    assert!(words(&first.certificate, &second.key).contains("1.key: is not the key of"));
    assert!(words(&first.key, &first.key).contains("0.key: holds no certificate"));
    assert!(words(&first.certificate, &first.certificate).contains("holds no private key"));
    assert!(words(&made.folder.path().join("none"), &first.key).contains("cannot be read"));
    assert!(words(made.folder.path(), &first.key).contains("is a folder"));
    for (curve, name) in [
        ("secp521r1", "P-521"),
        ("secp224r1", "P-224"),
        ("secp256k1", "secp256k1"),
    ] {
        let paths = [
            made.folder.path().join("odd.pem"),
            made.folder.path().join("odd.key"),
        ];
        let mut command = std::process::Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-nodes",
            "-subj",
            "/CN=odd",
            "-newkey",
            "ec",
            "-pkeyopt",
            &format!("ec_paramgen_curve:{curve}"),
            "-out",
        ]);
        assert!(
            command
                .arg(&paths[0])
                .arg("-keyout")
                .arg(&paths[1])
                .output()
                .expect("openssl")
                .status
                .success(),
            "{curve}"
        );
        let said = words(&paths[0], &paths[1]);
        assert!(
            said.contains(&format!(
                "is an ECDSA key on {name}, which is not supported: use an RSA key"
            )),
            "{said}"
        );
    }
}
