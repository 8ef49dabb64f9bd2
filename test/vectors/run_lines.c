/*
 * Runs known answers, one a line as vectors.py writes them, through every provider that has the
 * algorithm: in one piece laid out as ESP does, and in random chains; encrypt and decrypt.
 *
 *   run_lines SOURCE FILE      one TAP line a provider
 */
#include "../unit/crypto_util.h"

#define TEXT_MAX 4096
#define FIELDS 11

/* NAME CIPHER AUTH key authkey nonce aad plain cipher icv ok|forged, hex, "-" for nothing. */
struct vector {
	char name[80];
	bool forged;
	struct xf_suite suite;
	uint8_t key[XF_CIPHER_KEY_MAX + XF_SALT_MAX];
	uint8_t auth_key[XF_AUTH_KEY_MAX];
	uint8_t nonce[XF_NONCE_MAX];
	uint8_t aad[XF_AAD_MAX];
	uint8_t plain[TEXT_MAX];
	uint8_t cipher[TEXT_MAX];
	uint8_t icv[XF_ICV_MAX];
	uint32_t nonce_len;
	uint32_t aad_len;
	uint32_t len;
};

static const struct {
	const char *name;
	struct xf_suite suite;
} ciphers[] = {
	{ "null", { .cipher = XF_CIPHER_NULL, .block_len = 1 } },
	{ "cbc", { .cipher = XF_CIPHER_AES_CBC, .iv_len = 16, .block_len = 16 } },
	{ "ctr", { .cipher = XF_CIPHER_AES_CTR, .salt_len = 4, .iv_len = 8, .block_len = 1 } },
	{ "gcm", { .cipher = XF_CIPHER_AES_GCM, .salt_len = 4, .iv_len = 8, .block_len = 1 } },
	{ "ccm", { .cipher = XF_CIPHER_AES_CCM, .salt_len = 3, .iv_len = 8, .block_len = 1 } },
	{ "gmac", { .cipher = XF_CIPHER_AES_GMAC, .salt_len = 4, .iv_len = 8, .block_len = 1 } },
	{ "chacha",
	  { .cipher = XF_CIPHER_CHACHA20_POLY1305, .salt_len = 4, .iv_len = 8, .block_len = 1 } },
};

static const char *const auths[XF_AUTH_MAX] = { "none", "sha1", "sha256", "sha384", "sha512" };

static int nibble(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Bytes of @hex into @out: their number, or -1. */
static int unhex(const char *hex, uint8_t *out, size_t max)
{
	size_t n = strlen(hex) / 2;

	if (!strcmp(hex, "-"))
		return 0;
	if (strlen(hex) % 2 || n > max)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return -1;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return (int)n;
}

static bool parse_suite(const char *cipher, const char *auth, struct xf_suite *out)
{
	for (size_t i = 0; i < XF_ARRAY_SIZE(ciphers); i++)
		for (unsigned a = 0; a < XF_AUTH_MAX; a++)
			if (!strcmp(ciphers[i].name, cipher) && !strcmp(auths[a], auth)) {
				*out = ciphers[i].suite;
				out->auth = (uint8_t)a;
				return true;
			}
	return false;
}

static bool parse(char *line, struct vector *v)
{
	char *fields[FIELDS];
	char *save = NULL;
	int lens[FIELDS] = { 0 };
	unsigned n = 0;

	for (char *f = strtok_r(line, " \n", &save); f; f = strtok_r(NULL, " \n", &save)) {
		if (n == FIELDS)
			return false;
		fields[n++] = f;
	}
	if (n != FIELDS || !parse_suite(fields[1], fields[2], &v->suite))
		return false;
	snprintf(v->name, sizeof(v->name), "%s", fields[0]);
	lens[3] = unhex(fields[3], v->key, XF_CIPHER_KEY_MAX);
	lens[4] = unhex(fields[4], v->auth_key, sizeof(v->auth_key));
	lens[5] = unhex(fields[5], v->nonce, sizeof(v->nonce));
	lens[6] = unhex(fields[6], v->aad, sizeof(v->aad));
	lens[7] = unhex(fields[7], v->plain, sizeof(v->plain));
	lens[8] = unhex(fields[8], v->cipher, sizeof(v->cipher));
	lens[9] = unhex(fields[9], v->icv, sizeof(v->icv));
	for (unsigned i = 3; i < 10; i++)
		if (lens[i] < 0)
			return false;
	v->forged = !strcmp(fields[10], "forged");
	v->suite.cipher_key_len = (uint16_t)lens[3];
	v->suite.auth_key_len = (uint16_t)lens[4];
	v->suite.icv_len = (uint8_t)lens[9];
	v->aad_len = (uint32_t)lens[6];
	v->len = (uint32_t)lens[8];
	return v->forged || lens[7] == lens[8];
}

static bool check_result(const struct vector *v, const struct xf_crypto_op *op,
			 enum xf_crypto_status status, const uint8_t *text)
{
	if (v->forged)
		return status == XF_CRYPTO_BAD_ICV;
	return status == XF_CRYPTO_OK &&
	       !memcmp(text, op->encrypt ? v->cipher : v->plain, v->len) &&
	       !memcmp(op->icv_mem, v->icv, v->suite.icv_len);
}

static void prepare(const struct vector *v, struct xf_crypto_op *op, const struct xf_key *key,
		    bool encrypt)
{
	*op = (struct xf_crypto_op){
		.key = key, .len = v->len, .encrypt = encrypt, .aad_len = (uint8_t)v->aad_len
	};
	op_point(op);
	memcpy(op->nonce, v->nonce, sizeof(op->nonce));
	memcpy(op->aad_mem, v->aad, sizeof(op->aad_mem));
	if (!encrypt)
		memcpy(op->icv_mem, v->icv, sizeof(op->icv_mem));
}

/* In place, [aad | text] in one buffer. */
static bool in_one_piece(struct engine *engine, const struct vector *v, const struct xf_key *key,
			 bool encrypt)
{
	uint8_t mem[XF_AAD_MAX + TEXT_MAX];
	struct xf_buf buf = { .mem = mem, .size = sizeof(mem), .refs = 1 };
	struct xf_seg seg = { .data = mem + v->aad_len, .len = v->len, .buf = &buf };
	struct xf_crypto_op op;

	prepare(v, &op, key, encrypt);
	op.src = op.dst = &seg;
	op.nsrc = op.ndst = 1;
	memcpy(mem, v->aad, v->aad_len);
	memcpy(seg.data, encrypt ? v->plain : v->cipher, v->len);
	return check_result(v, &op, run_one(engine, &op), seg.data);
}

static bool in_chains(struct engine *engine, const struct vector *v, const struct xf_key *key,
		      bool encrypt)
{
	struct chain src, dst;
	struct xf_crypto_op op;
	uint8_t text[TEXT_MAX];
	bool fine;

	prepare(v, &op, key, encrypt);
	chain_make(&src, encrypt ? v->plain : v->cipher, v->len, MAX_SEGS);
	chain_make(&dst, NULL, v->len, MAX_SEGS);
	op.src = src.segs;
	op.nsrc = src.n;
	op.dst = dst.segs;
	op.ndst = dst.n;
	op.status = (uint8_t)run_one(engine, &op);
	chain_read(&dst, text);
	fine = check_result(v, &op, (enum xf_crypto_status)op.status, text);
	chain_free(&src);
	chain_free(&dst);
	return fine;
}

static bool run_vector(struct engine *engine, const struct vector *v)
{
	struct xf_key *key;
	bool fine = true;

	if (xf_key_new(&v->suite, engine->provider, v->key, v->auth_key, &key))
		return false;
	for (unsigned encrypt = 0; encrypt < (v->forged ? 1 : 2); encrypt++)
		fine = fine && in_one_piece(engine, v, key, encrypt) &&
		       in_chains(engine, v, key, encrypt);
	xf_key_free(key);
	return fine;
}

struct tally {
	unsigned passed;
	unsigned failed;
	unsigned lacking;
};

static void run_line(struct engine *engine, char *line, struct tally *tally)
{
	static struct vector v;

	memset(&v, 0, sizeof(v));
	if (!parse(line, &v)) {
		printf("# not understood: %s\n", line);
		tally->failed++;
	} else if (!engine->provider->has(&v.suite)) {
		tally->lacking++;
	} else if (run_vector(engine, &v)) {
		tally->passed++;
	} else {
		printf("# %s differs\n", v.name);
		tally->failed++;
	}
}

/* A provider for other suites has nothing to say. */
static bool lacks_all(const struct tally *tally)
{
	return tally->lacking && !tally->passed && !tally->failed;
}

static bool run_provider(struct engine *engine, FILE *lines, struct tally *tally)
{
	char *line = NULL;
	size_t size = 0;

	rewind(lines);
	while (getline(&line, &size, lines) > 0)
		run_line(engine, line, tally);
	free(line);
	return !tally->failed && (tally->passed || tally->lacking);
}

int main(int argc, char **argv)
{
	FILE *lines = argc == 3 ? fopen(argv[2], "r") : NULL;
	unsigned p, passed = 0;
	int failed = 0;

	if (!lines) {
		fprintf(stderr, "usage: run_lines SOURCE FILE\n");
		return 2;
	}
	srand(20171108);
	for (p = 0; xf_crypto_providers()[p]; p++) {
		struct engine engine;
		struct tally tally = { 0 };
		bool fine;

		if (!engine_open(&engine, xf_crypto_providers()[p])) {
			printf("ok %u - %s: %s # SKIP cannot run on this machine\n", p + 1, argv[1],
			       xf_crypto_providers()[p]->name);
			continue;
		}
		fine = run_provider(&engine, lines, &tally);
		printf("%sok %u - %s: %s: %u passed, %u failed, %u of suites it lacks%s\n",
		       fine ? "" : "not ", p + 1, argv[1], engine.provider->name, tally.passed,
		       tally.failed, tally.lacking, lacks_all(&tally) ? " # SKIP all" : "");
		engine_close(&engine);
		failed += !fine;
		passed += tally.passed;
	}
	printf("1..%u\n", p);
	fclose(lines);
	return failed || !passed;
}
