//! The second factor: codes of a device (TOTP, RFC 6238), and recovery codes.

use std::time::Duration;

use authz::{Timestamp, UserId};
use axum::http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use qrcode::{QrCode, render::svg};
use store::second_factors::{Place, Proof, Proved};
use totp_rs::{Builder, Secret};

use super::session::Renewal;
use crate::{Orchestrator, authenticate::Person, credential::Digest, error::Error};

/// A code is good for so many seconds, and those before and after.
const STEP_SECONDS: i64 = 30;

/// As RFC 4226 asks for.
const SECRET_BYTES: usize = 20;

/// How many recovery codes somebody gets.
const RECOVERY_CODES: usize = 10;

/// How long a device may take from its secret to its first code.
const ENROLMENT_LIFETIME: Duration = Duration::from_mins(15);

/// How long a login or a proof is fresh enough to change the factor itself.
const FRESH: Duration = Duration::from_mins(15);

/// Codes are read off a screen; nothing sensible is longer.
const MAX_CODE_CHARS: usize = 64;

/// A device whose enrolment has begun. Shown once.
pub(crate) struct Begun {
    pub(crate) secret: String,
    pub(crate) uri: String,
}

impl Begun {
    /// The same for a camera, as SVG; nothing if it does not fit.
    pub(crate) fn picture(&self) -> String {
        QrCode::new(&self.uri).map_or_else(
            |_| String::new(),
            |code| {
                code.render::<svg::Color<'_>>()
                    .min_dimensions(200, 200)
                    .build()
                    .trim_start_matches("<?xml version=\"1.0\" standalone=\"yes\"?>")
                    .to_owned()
            },
        )
    }
}

/// The time step of a code, if it is one of this secret's around `now` and later than
/// `after`.
fn step_of(secret: &str, code: &str, now: Timestamp, after: i64) -> Option<i64> {
    let secret = Secret::try_from_base32(secret).ok()?;
    let totp = Builder::new()
        .with_secret(secret)
        .with_skew(0)
        .build()
        .ok()?;
    let current = now.as_millis().div_euclid(1_000 * STEP_SECONDS);
    (current - 1..=current + 1)
        .filter(|&step| after < step)
        .find(|&step| {
            u64::try_from(step * STEP_SECONDS).is_ok_and(|time| totp.check(code, time).is_some())
        })
}

/// What somebody typed: six digits, or a recovery code, written in any way.
enum Typed {
    Digits(String),
    Recovery(String),
}

fn typed(code: &str) -> Result<Typed, Error> {
    let wrong = || Error::field("code", "six digits, or a recovery code");
    if code.chars().count() > MAX_CODE_CHARS {
        return Err(wrong());
    }
    let plain: String = code
        .chars()
        .filter(|char| !char.is_whitespace() && *char != '-')
        .map(|char| char.to_ascii_lowercase())
        .collect();
    if plain.len() == 6 && plain.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(Typed::Digits(plain))
    } else if plain.len() == 16 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(Typed::Recovery(plain))
    } else {
        Err(wrong())
    }
}

/// Recovery codes as people write them down, 80 random bits each, and their digests.
fn recovery_codes() -> (Vec<String>, Vec<String>) {
    (0..RECOVERY_CODES)
        .map(|_| {
            let code = Secret::from(rand::random::<[u8; 10]>())
                .to_base32()
                .to_ascii_lowercase();
            let parts: Vec<&str> = [0..4, 4..8, 8..12, 12..16]
                .into_iter()
                .filter_map(|part| code.get(part))
                .collect();
            (parts.join("-"), Digest::of(&code).hex())
        })
        .unzip()
}

fn uri(orchestrator: &Orchestrator, user: &UserId, secret: &str) -> String {
    let host = orchestrator
        .inner
        .config
        .public_url
        .split_once("://")
        .map_or("", |(_, host)| host);
    let issuer = format!("Cedargate ({host})").replace(':', " ");
    let issuer = utf8_percent_encode(&issuer, NON_ALPHANUMERIC);
    let user = utf8_percent_encode(user.as_str(), NON_ALPHANUMERIC);
    format!(
        "otpauth://totp/{issuer}:{user}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period=30"
    )
}

fn place(person: &Person, renewal: Option<&Renewal>) -> Place {
    Place {
        credential: person.credential,
        origin: person.origin.clone(),
        rotated: renewal.map(Renewal::digest),
    }
}

/// Whether somebody may change by what they are known, the factor itself included: whoever has one proves it first, and
/// whoever has none has just logged in, lest a browser left open is enough.
pub(crate) async fn may_change(orchestrator: &Orchestrator, person: &Person) -> Result<(), Error> {
    let now = orchestrator.now();
    let fresh = |at: Timestamp| now.since(at) <= FRESH;
    let factor = orchestrator.store().second_factor(&person.user.id).await?;
    if factor.is_some_and(|factor| factor.enrolled.is_some()) {
        if person.confirmed.is_some_and(fresh) {
            return Ok(());
        }
        return Err(Error::StepUp(
            "prove the second factor that you have first".to_owned(),
        ));
    }
    // A credential in each request is as fresh as it gets.
    if person.began.is_none_or(fresh) {
        Ok(())
    } else {
        Err(Error::NotFresh)
    }
}

/// Begins to enrol a device.
pub(crate) async fn begin(orchestrator: &Orchestrator, person: &Person) -> Result<Begun, Error> {
    may_change(orchestrator, person).await?;
    let secret = Secret::from(rand::random::<[u8; SECRET_BYTES]>()).to_base32();
    orchestrator
        .store()
        .begin_second_factor(&person.user.id, &secret, &orchestrator.actor(person))
        .await?;
    Ok(Begun {
        uri: uri(orchestrator, &person.user.id, &secret),
        secret,
    })
}

/// The device that somebody is enrolling, to show it once more after a wrong code.
pub(crate) async fn begun(
    orchestrator: &Orchestrator,
    person: &Person,
) -> Result<Option<Begun>, Error> {
    let factor = orchestrator.store().second_factor(&person.user.id).await?;
    Ok(factor
        .and_then(|factor| factor.pending)
        .map(|secret| Begun {
            uri: uri(orchestrator, &person.user.id, &secret),
            secret,
        }))
}

/// Enrols the device by its first code: the recovery codes, shown once, and the
/// session's next cookie.
pub(crate) async fn enrol(
    orchestrator: &Orchestrator,
    person: &Person,
    code: &str,
) -> Result<(Vec<String>, Option<HeaderValue>), Error> {
    let Typed::Digits(code) = typed(code)? else {
        return Err(Error::field("code", "the six digits that the device shows"));
    };
    may_change(orchestrator, person).await?;
    let actor = orchestrator.actor(person);
    let (codes, digests) = recovery_codes();
    let renewal = Renewal::of(person);
    let enrolled = orchestrator
        .store()
        .enrol_second_factor(
            &person.user.id,
            actor.at.minus(ENROLMENT_LIFETIME),
            &digests,
            &place(person, renewal.as_ref()),
            &actor,
            |secret| step_of(secret, &code, actor.at, 0),
        )
        .await?;
    if !enrolled {
        return Err(Error::WrongCode);
    }
    tracing::info!(user = %person.user.id, "second_factor_enrolled");
    let cookie = renewal
        .map(|renewal| renewal.cookie(orchestrator))
        .transpose()?;
    Ok((codes, cookie))
}

/// Looks at a code, and confirms the credential by it; gives back the session's next
/// cookie.
pub(crate) async fn prove(
    orchestrator: &Orchestrator,
    person: &Person,
    code: &str,
) -> Result<Option<HeaderValue>, Error> {
    let typed = typed(code)?;
    let actor = orchestrator.actor(person);
    let factor = orchestrator.store().second_factor(&person.user.id).await?;
    if factor.is_none_or(|factor| factor.enrolled.is_none()) {
        return Err(Error::Conflict(
            "you have no second factor yet; enrol one first".to_owned(),
        ));
    }
    let proof = match typed {
        Typed::Digits(code) => {
            Proof::Code(move |secret: &str, after: i64| step_of(secret, &code, actor.at, after))
        }
        Typed::Recovery(code) => Proof::Recovery(Digest::of(&code).hex()),
    };
    settle(orchestrator, person, proof).await
}

/// Confirms the credential by the provider's word that it asked again.
pub(crate) async fn vouched(
    orchestrator: &Orchestrator,
    person: &Person,
    how: String,
) -> Result<Option<HeaderValue>, Error> {
    type Never = fn(&str, i64) -> Option<i64>;
    settle(orchestrator, person, Proof::<Never>::Provider(how)).await
}

async fn settle<F>(
    orchestrator: &Orchestrator,
    person: &Person,
    proof: Proof<F>,
) -> Result<Option<HeaderValue>, Error>
where
    F: FnOnce(&str, i64) -> Option<i64> + Send,
{
    let actor = orchestrator.actor(person);
    let renewal = Renewal::of(person);
    let proved = orchestrator
        .store()
        .prove_second_factor(
            &person.user.id,
            proof,
            &place(person, renewal.as_ref()),
            &actor,
        )
        .await
        .map_err(|error| match error {
            // It ended while they typed.
            store::StoreError::NotFound(_) => Error::Unauthenticated,
            error => error.into(),
        })?;
    match proved {
        Proved::Yes => {
            tracing::info!(user = %person.user.id, "step_up");
            renewal
                .map(|renewal| renewal.cookie(orchestrator))
                .transpose()
        }
        Proved::No(_) => {
            tracing::warn!(user = %person.user.id, "step_up_refused");
            Err(Error::WrongCode)
        }
        Proved::NotYet(until) => Err(Error::TooManyTries(until.since(actor.at))),
    }
}

/// Removes a person's own second factor, which they prove first.
pub(crate) async fn remove(orchestrator: &Orchestrator, person: &Person) -> Result<(), Error> {
    may_change(orchestrator, person).await?;
    orchestrator
        .store()
        .remove_second_factor(&person.user.id, &orchestrator.actor(person))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the last six digits of the eight for SHA-1.
    #[test]
    fn the_codes_of_the_rfc_are_good_once_and_around_their_time() {
        let secret = Secret::from(*b"12345678901234567890").to_base32();
        for (seconds, code) in [
            (59_i64, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ] {
            let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
            let step = seconds / 30;
            assert_eq!(step_of(&secret, code, at(seconds), 0), Some(step));
            assert_eq!(step_of(&secret, code, at(seconds + 30), 0), Some(step));
            assert_eq!(step_of(&secret, code, at(seconds - 30), 0), Some(step));
            assert_eq!(step_of(&secret, code, at(seconds + 61), 0), None);
            assert_eq!(step_of(&secret, code, at(seconds), step), None, "used");
        }
        for code in ["", "28708", "2870822", "28708x", "２８７０８２", "-87082"] {
            assert_eq!(
                step_of(&secret, code, Timestamp::from_millis(59_000), 0),
                None,
                "{code}"
            );
        }
        assert_eq!(
            step_of("not base32!", "287082", Timestamp::from_millis(59_000), 0),
            None
        );
    }

    #[test]
    fn codes_are_read_as_people_type_them() {
        assert!(matches!(typed(" 287 082 ").unwrap(), Typed::Digits(code) if code == "287082"));
        let (codes, digests) = recovery_codes();
        assert_eq!((codes.len(), digests.len()), (10, 10));
        for (code, digest) in codes.iter().zip(&digests) {
            for written in [code.clone(), code.to_uppercase(), code.replace('-', " ")] {
                assert!(
                    matches!(typed(&written).unwrap(), Typed::Recovery(plain) if &Digest::of(&plain).hex() == digest),
                    "{written}"
                );
            }
        }
        for odd in [
            "",
            "12345",
            "x".repeat(1_000).as_str(),
            "２８７０８２",
            "abcd-efgh-ijkl-mnö",
        ] {
            assert!(typed(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_picture_is_markup_without_scripts() {
        let begun = Begun {
            secret: "X".to_owned(),
            uri: "otpauth://totp/a:b?secret=X".to_owned(),
        };
        let picture = begun.picture();
        assert!(
            picture.starts_with("<svg") && !picture.contains("style"),
            "{picture}"
        );
    }
}
