/* Stands in for CUDA's driver where there is no GPU: takes calls as libcuda does, remembers the last launch. */
#include <stddef.h>
#include <string.h>

unsigned int launched[7];
unsigned char arguments[256];
size_t num_argument_bytes;
void *stream_of_launch;
unsigned char first_code_byte;
char symbol[64];
int shared_limit;
int num_loads;
int status;

int cuModuleLoadData(void **module, const void *image) {
    first_code_byte = *(const unsigned char *)image;
    num_loads++;
    *module = (void *)0x1122334455667788;
    return status;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    strncpy(symbol, name, sizeof symbol - 1);
    *function = (void *)0x8877665544332211;
    return module == (void *)0x1122334455667788 ? 0 : 400;
}

int cuFuncSetAttribute(void *function, int attribute, int value) {
    if (function != (void *)0x8877665544332211) return 400;
    if (attribute == 8) shared_limit = value;
    return 0;
}

int cuLaunchKernel(void *function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
                   unsigned int bz, unsigned int shared, void *stream, void **params, void **extra) {
    if (function != (void *)0x8877665544332211 || params || (size_t)extra[0] != 1 || (size_t)extra[2] != 2 || extra[4]) return 1;
    unsigned int all[] = {gx, gy, gz, bx, by, bz, shared};
    memcpy(launched, all, sizeof all);
    num_argument_bytes = *(size_t *)extra[3];
    memcpy(arguments, extra[1], num_argument_bytes);
    stream_of_launch = stream;
    return status;
}

int cuGetErrorString(int number, const char **text) {
    *text = number == 700 ? "an illegal memory access was encountered" : "invalid argument";
    return 0;
}
