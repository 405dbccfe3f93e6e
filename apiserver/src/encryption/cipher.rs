//! The ciphers of upstream's providers, each as upstream writes it: a nonce, then
//! what was sealed.
//!
//! All are of one family of crates: what TLS stands on has no keys of 192 bits, no
//! CBC and no box.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::{
    AesGcm, KeyInit as _,
    aead::{
        AeadInPlace,
        consts::{U0, U12, U16},
    },
};
use cbc::cipher::{
    BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _, block_padding::Pkcs7,
};
use crypto_secretbox::XSalsa20Poly1305;
use rand::Rng as _;

/// Bytes of the nonces before what was sealed.
const GCM_NONCE: usize = 12;
const CBC_NONCE: usize = 16;
const BOX_NONCE: usize = 24;
/// Bytes that a box is longer than what is in it.
const BOX_TAG: usize = 16;

type Gcm = dyn AeadInPlace<NonceSize = U12, TagSize = U16, CiphertextOverhead = U0> + Send + Sync;

/// One key, ready for use.
pub(super) enum Cipher {
    Gcm(Box<Gcm>),
    /// The key: it is expanded for each value.
    Cbc(Vec<u8>),
    SecretBox(Box<XSalsa20Poly1305>),
}

/// Why something is not opened, in upstream's words.
const SHORT: &str = "the stored data was shorter than the required size";
const FORGED: &str = "cipher: message authentication failed";
const NOT_A_KEY: &str = "a key has not the size of one";

impl Cipher {
    pub fn gcm(key: &[u8]) -> Result<Self, String> {
        let wrong = |_| NOT_A_KEY.to_owned();
        Ok(Self::Gcm(match key.len() {
            16 => Box::new(AesGcm::<Aes128, U12>::new_from_slice(key).map_err(wrong)?),
            24 => Box::new(AesGcm::<Aes192, U12>::new_from_slice(key).map_err(wrong)?),
            _ => Box::new(AesGcm::<Aes256, U12>::new_from_slice(key).map_err(wrong)?),
        }))
    }

    pub fn cbc(key: &[u8]) -> Self {
        Self::Cbc(key.to_vec())
    }

    pub fn secret_box(key: &[u8]) -> Result<Self, String> {
        let cipher = XSalsa20Poly1305::new_from_slice(key).map_err(|_| NOT_A_KEY.to_owned())?;
        Ok(Self::SecretBox(Box::new(cipher)))
    }

    /// Appends a nonce and the sealed value. `place` is bound to it where the cipher
    /// can do that.
    pub fn seal(&self, place: &[u8], value: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
        let failed = |_| "sealing failed".to_owned();
        match self {
            Self::Gcm(cipher) => {
                let nonce: [u8; GCM_NONCE] = rand::rng().random();
                let mut text = value.to_vec();
                let tag = cipher
                    .encrypt_in_place_detached(&nonce.into(), place, &mut text)
                    .map_err(failed)?;
                into.extend(nonce);
                into.extend(text);
                into.extend(tag);
            }
            Self::Cbc(key) => {
                let nonce: [u8; CBC_NONCE] = rand::rng().random();
                into.extend(nonce);
                into.extend(cbc_encrypted(key, &nonce, value)?);
            }
            Self::SecretBox(cipher) => {
                let nonce: [u8; BOX_NONCE] = rand::rng().random();
                let mut text = value.to_vec();
                let tag = cipher
                    .encrypt_in_place_detached(&nonce.into(), b"", &mut text)
                    .map_err(failed)?;
                into.extend(nonce);
                into.extend(tag);
                into.extend(text);
            }
        }
        Ok(())
    }

    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm(cipher) => {
                let (nonce, rest) = sealed.split_at_checked(GCM_NONCE).ok_or(SHORT)?;
                let at = rest.len().checked_sub(BOX_TAG).ok_or(FORGED)?;
                let (text, tag) = rest.split_at(at);
                let mut text = text.to_vec();
                cipher
                    .decrypt_in_place_detached(nonce.into(), place, &mut text, tag.into())
                    .map_err(|_| FORGED.to_owned())?;
                Ok(text)
            }
            Self::Cbc(key) => {
                let (nonce, text) = sealed.split_at_checked(CBC_NONCE).ok_or(SHORT)?;
                cbc_decrypted(key, nonce, text)
            }
            Self::SecretBox(cipher) => {
                let (nonce, rest) = sealed.split_at_checked(BOX_NONCE).ok_or(SHORT)?;
                let (tag, text) = rest.split_at_checked(BOX_TAG).ok_or(SHORT)?;
                let mut text = text.to_vec();
                cipher
                    .decrypt_in_place_detached(nonce.into(), b"", &mut text, tag.into())
                    // Upstream's words for a box that it cannot open.
                    .map_err(|_| "output array was not large enough for encryption".to_owned())?;
                Ok(text)
            }
        }
    }
}

fn cbc_encrypted(key: &[u8], nonce: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |_| NOT_A_KEY.to_owned();
    Ok(match key.len() {
        16 => cbc::Encryptor::<Aes128>::new_from_slices(key, nonce)
            .map_err(wrong)?
            .encrypt_padded_vec_mut::<Pkcs7>(value),
        24 => cbc::Encryptor::<Aes192>::new_from_slices(key, nonce)
            .map_err(wrong)?
            .encrypt_padded_vec_mut::<Pkcs7>(value),
        _ => cbc::Encryptor::<Aes256>::new_from_slices(key, nonce)
            .map_err(wrong)?
            .encrypt_padded_vec_mut::<Pkcs7>(value),
    })
}

fn cbc_decrypted(key: &[u8], nonce: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
    if text.is_empty() || !text.len().is_multiple_of(CBC_NONCE) {
        return Err("the stored data is not a multiple of the block size".to_owned());
    }
    let wrong = |_| NOT_A_KEY.to_owned();
    let opened = match key.len() {
        16 => cbc::Decryptor::<Aes128>::new_from_slices(key, nonce)
            .map_err(wrong)?
            .decrypt_padded_vec_mut::<Pkcs7>(text),
        24 => cbc::Decryptor::<Aes192>::new_from_slices(key, nonce)
            .map_err(wrong)?
            .decrypt_padded_vec_mut::<Pkcs7>(text),
        _ => cbc::Decryptor::<Aes256>::new_from_slices(key, nonce)
            .map_err(wrong)?
            .decrypt_padded_vec_mut::<Pkcs7>(text),
    };
    opened.map_err(|_| "invalid padding on input".to_owned())
}
